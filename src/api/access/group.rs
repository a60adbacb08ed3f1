//! Groups: their ids by name, and the groups of a process.

use std::{fs, io, path::Path};

/// The id of the group with this name in `file`, which has the format of /etc/group. Directory services such as LDAP are not queried.
///
/// # Errors
///
/// If the file cannot be read.
pub(crate) fn gid_of(file: &Path, name: &str) -> io::Result<Option<u32>> {
    let groups = fs::read(file)?;
    Ok(String::from_utf8_lossy(&groups).lines().find_map(|line| {
        // name:password:gid:members
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    }))
}

/// The supplementary groups of a process. Empty if the process belongs to another user or its status file is unreadable.
pub(super) fn supplementary(pid: i32, uid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/status")).map(|status| groups(&status, uid)).unwrap_or_default()
}

/// Whether the processes of other users are hidden, as with `ProtectProc=invisible` or `hidepid`.
pub(super) fn are_hidden() -> bool {
    // Process 1 always exists in a PID namespace. It belongs to another user unless plegd owns all processes.
    !Path::new("/proc/1/status").exists()
}

fn groups(status: &str, uid: u32) -> Vec<u32> {
    let numbers = |field: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.map(|line| line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
            .unwrap_or_default()
    };
    // Real, effective, saved and file system id. The socket's credentials contain the effective one.
    if numbers("Uid:").get(1) == Some(&uid) { numbers("Groups:") } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("group");
        fs::write(&file, b"root:x:0:\n# comment\nbroken\nhalf:x\nnumber:x:ten:\nplegd:x:2000:anna,bo\n\xff\xfe:x:9:\nlast:x:3:")
            .unwrap();
        let gid = |name| gid_of(&file, name).unwrap();
        assert_eq!((gid("root"), gid("plegd"), gid("last")), (Some(0), Some(2000), Some(3)));
        assert_eq!((gid("pleg"), gid("half"), gid("number"), gid("")), (None, None, None, None));
        assert!(gid_of(&directory.path().join("none"), "root").is_err());
    }

    #[test]
    fn only_groups_of_a_process_of_the_same_user_count() {
        let status = "Name:\tx\nUid:\t5\t6\t7\t8\nGid:\t1\t1\t1\t1\nGroups:\t10 20 \n";
        assert_eq!(groups(status, 6), [10, 20]);
        assert!(groups(status, 5).is_empty());
        assert!(groups("Uid:\nGroups:\tx", 0).is_empty());
        assert!(supplementary(i32::MAX, 0).is_empty());
    }
}
