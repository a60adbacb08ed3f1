use proptest::prelude::*;

use super::*;
use crate::state::storage::{Disk, Fault};

type Entry = (FrameKind, Vec<u8>);

fn entries(loaded: &Loaded) -> Vec<Entry> {
    loaded.frames().map(|frame| (frame.kind, frame.payload.to_vec())).collect()
}

fn open(disk: &Disk, max_bytes: u64) -> (Log, Vec<Entry>) {
    let (log, loaded) = Log::open(Box::new(disk.open()), max_bytes);
    (log, entries(&loaded.unwrap()))
}

fn text(text: &str) -> impl FnOnce(&mut Vec<u8>) {
    move |out| out.extend_from_slice(text.as_bytes())
}

fn segment(log: &mut Log, first: u64) -> io::Result<()> {
    log.begin_segment(first, text("header"))?;
    log.append(FrameKind::Checkpoint, text("pods"))?;
    log.finish_checkpoint()
}

#[test]
fn a_new_process_reads_what_the_earlier_one_has_written() {
    let disk = Disk::default();
    let (mut log, nothing) = open(&disk, 1 << 20);
    assert_eq!(nothing, []);
    segment(&mut log, 1).unwrap();
    log.append(FrameKind::Append, text("one")).unwrap();
    segment(&mut log, 2).unwrap();
    log.append(FrameKind::Note, text("two")).unwrap();
    let (_, found) = open(&disk, 1 << 20);
    let kinds: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
    use FrameKind::{Append, Checkpoint, CheckpointEnd, Header, Note};
    assert_eq!(kinds, [Header, Checkpoint, CheckpointEnd, Append, Header, Checkpoint, CheckpointEnd, Note]);
}

#[test]
fn segments_with_the_same_number_stay_in_order() {
    let disk = Disk::default();
    for process in 0..20 {
        let (mut log, found) = open(&disk, 1 << 20);
        assert!(found.iter().filter(|(kind, _)| *kind == FrameKind::Append).count() <= process);
        segment(&mut log, 7).unwrap();
        log.append(FrameKind::Append, text(&process.to_string())).unwrap();
    }
    let (_, found) = open(&disk, 1 << 20);
    let appended = found.iter().filter(|(kind, _)| *kind == FrameKind::Append);
    let appended: Vec<_> =
        appended.map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()).collect();
    assert_eq!(appended, ["12", "13", "14", "15", "16", "17", "18", "19"]);
}

#[test]
fn the_oldest_segments_are_deleted_once_the_checkpoint_is_complete() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 4000);
    segment(&mut log, 1).unwrap();
    assert!(!log.is_rotation_due());
    while !log.is_rotation_due() {
        log.append(FrameKind::Append, |out| out.resize(500, 1)).unwrap();
    }
    assert!((1000..2000).contains(&log.bytes()), "after a quarter of the limit: {}", log.bytes());
    for first in 2..10 {
        log.begin_segment(first, text("header")).unwrap();
        assert!(!log.is_rotation_due(), "not within a checkpoint");
        log.append(FrameKind::Append, |out| out.resize(1500, 1)).unwrap();
        let kept = disk.files().len();
        log.finish_checkpoint().unwrap();
        assert!(disk.files().len() <= kept && log.bytes() <= 4000);
        assert_eq!(log.bytes(), disk.files().values().map(|file| file.len() as u64).sum::<u64>());
    }
    log.begin_segment(10, text("header")).unwrap();
    log.append(FrameKind::Checkpoint, |out| out.resize(10_000, 1)).unwrap();
    log.finish_checkpoint().unwrap();
    assert_eq!(disk.files().len(), 1, "a checkpoint above the limit is kept alone");
}

#[test]
fn a_damaged_log_is_set_aside_once() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    segment(&mut log, 1).unwrap();
    let mut files = disk.files();
    let file = files.values_mut().next().unwrap();
    let at = file.len() - 10;
    file[at] ^= 1;
    files.insert("notes".into(), b"of somebody else".to_vec());
    disk.set_files(files.clone());
    let (mut log, loaded) = Log::open(Box::new(disk.open()), 1 << 20);
    assert!(matches!(loaded, Err(LoadError::Damaged { .. })));
    log.set_aside().unwrap();
    log.set_aside().unwrap();
    assert_eq!(disk.files().keys().collect::<Vec<_>>(), ["notes"], "only the last damaged log is kept");
    disk.set_files(files);
    let (mut log, _) = Log::open(Box::new(disk.open()), 1 << 20);
    log.set_aside().unwrap();
    segment(&mut log, 1).unwrap();
    let (_, found) = open(&disk, 1 << 20);
    assert_eq!(found.len(), 3);
}

#[test]
fn an_empty_segment_is_ignored_as_the_newest_and_damage_before() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    segment(&mut log, 5).unwrap();
    let mut files = disk.files();
    files.insert(format!("{:020}-0000000000.wal", 9), Vec::new());
    disk.set_files(files.clone());
    assert_eq!(open(&disk, 1 << 20).1.len(), 3);
    files.insert(format!("{:020}-0000000000.wal", 1), Vec::new());
    disk.set_files(files);
    let (_, loaded) = Log::open(Box::new(disk.open()), 1 << 20);
    assert!(matches!(loaded, Err(LoadError::Empty { .. })));
}

#[test]
fn a_full_disk_leaves_nothing_that_could_be_loaded() {
    for at in 0..5 {
        let disk = Disk::default();
        let (mut log, _) = open(&disk, 1 << 20);
        disk.set_fault(Some(Fault::Full { at }));
        let result = segment(&mut log, 1);
        assert_eq!(result.is_err(), at < 4, "{at}: {result:?}");
        let result = result.and_then(|()| log.append(FrameKind::Append, text("one")));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        log.discard().unwrap();
        assert!(disk.files().is_empty() && log.bytes() == 0);
        disk.set_fault(None);
        segment(&mut log, 2).unwrap();
        assert_eq!(open(&disk, 1 << 20).1.len(), 3);
    }
}

proptest! {
    /// Wherever the process is killed, the log has all entries that were acknowledged, in order, and nothing else but a prefix of the one
    /// that was being written.
    #[test]
    fn a_killed_process_loses_nothing_that_was_acknowledged(
        sizes in prop::collection::vec(0..200usize, 1..30),
        at in 0..40u64,
        bytes in 0..300usize,
    ) {
        let disk = Disk::default();
        let (mut log, _) = open(&disk, 1 << 20);
        disk.set_fault(Some(Fault::Kill { at, bytes }));
        let mut acknowledged = Vec::new();
        let mut write = || -> io::Result<()> {
            for (number, size) in sizes.iter().enumerate() {
                if number % 10 == 0 {
                    segment(&mut log, number as u64)?;
                }
                let payload = vec![u8::try_from(number).unwrap(); *size];
                log.append(FrameKind::Append, |out| out.extend_from_slice(&payload))?;
                acknowledged.push(payload);
            }
            Ok(())
        };
        let killed = write().is_err();
        let (_, found) = open(&disk, 1 << 20);
        let found: Vec<_> =
            found.into_iter().filter(|(kind, _)| *kind == FrameKind::Append).map(|(_, it)| it).collect();
        // The write during which the process was killed may be whole.
        let extra = usize::from(killed && found.len() > acknowledged.len());
        prop_assert_eq!(&found[..found.len() - extra], &acknowledged[..]);
    }

    #[test]
    fn no_contents_make_reading_panic(files in prop::collection::btree_map("[0-9]{1,3}\\.wal", any::<Vec<u8>>(), 0..4)) {
        let disk = Disk::default();
        disk.set_files(files);
        let (mut log, loaded) = Log::open(Box::new(disk.open()), 1 << 20);
        if loaded.is_err() {
            log.set_aside().unwrap();
        }
        prop_assert!(disk.files().keys().all(|name| !name.ends_with(".wal")) || Log::open(Box::new(disk.open()), 1).1.is_ok());
    }
}
