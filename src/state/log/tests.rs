use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::{
    frame::MAX_PAYLOAD,
    storage::{Disk, Fault, KILLED},
};

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

#[test]
fn a_process_that_is_killed_before_its_first_frame_leaves_nothing_behind() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    segment(&mut log, 5).unwrap();
    for bytes in [0, 10, 20] {
        let (mut log, _) = open(&disk, 1 << 20);
        disk.set_fault(Some(Fault::Kill { at: 1, bytes }));
        assert!(until_killed(|| segment(&mut log, 6)).is_none());
    }
    let (mut log, loaded) = Log::open(Box::new(disk.open()), 1 << 20);
    assert_eq!(loaded.unwrap().torn_bytes(), 20);
    segment(&mut log, 6).unwrap();
    assert_eq!(open(&disk, 1 << 20).1.len(), 6, "two segments, and no empty one between them");
    assert_eq!(disk.files().len(), 2);
}

#[test]
fn files_with_other_names_are_left_alone() {
    let disk = Disk::default();
    let names = ["1.wal", "1-0.wal", "00000000000000000001-0000000000.wal.old", "notes.wal", "0.wal.damaged"];
    let other: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), b"other".to_vec())).collect();
    disk.set_files(other.clone());
    let (mut log, found) = open(&disk, 1 << 20);
    assert_eq!(found, []);
    segment(&mut log, 1).unwrap();
    log.set_aside().unwrap();
    log.set_aside().unwrap();
    segment(&mut log, 1).unwrap();
    log.discard().unwrap();
    assert_eq!(disk.files(), other);
}

#[test]
fn a_frame_that_could_not_be_read_is_not_written() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 1 << 30);
    segment(&mut log, 1).unwrap();
    log.append(FrameKind::Append, |out| out.resize(out.len() + MAX_PAYLOAD, 1)).unwrap();
    let too_large = log.append(FrameKind::Append, |out| out.resize(out.len() + MAX_PAYLOAD + 1, 1));
    assert_eq!(too_large.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(open(&disk, 1 << 30).1.len(), 4);
}

#[test]
fn segments_that_could_not_be_deleted_are_deleted_before_the_next_one_begins() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    segment(&mut log, 1).unwrap();
    disk.set_fault(Some(Fault::ReadOnly));
    let error = log.append(FrameKind::Append, text("one")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(log.discard().is_err());
    assert!(segment(&mut log, 3).is_err(), "the old segments are still there");
    disk.set_fault(None);
    segment(&mut log, 3).unwrap();
    assert_eq!(disk.files().len(), 1, "the old segment lacks a change");
    assert_eq!(open(&disk, 1 << 20).1.len(), 3);
}

#[test]
fn a_process_killed_while_it_deletes_or_sets_aside_leaves_the_newest_segments() {
    let whole = Disk::default();
    let (mut log, _) = open(&whole, 1 << 20);
    (1..4).for_each(|first| segment(&mut log, first).unwrap());
    let names: Vec<_> = whole.files().into_keys().collect();
    for at in 0..3 {
        for change in [Log::discard, Log::set_aside] {
            let disk = Disk::default();
            disk.set_files(whole.files());
            let (mut log, _) = open(&disk, 1 << 20);
            disk.set_fault(Some(Fault::KillBeforeDeletion { at }));
            assert!(until_killed(|| change(&mut log)).is_none());
            let at = usize::try_from(at).unwrap();
            let kept: Vec<_> = disk.files().into_keys().filter(|name| name.ends_with(".wal")).collect();
            assert_eq!(kept, names[at..]);
            assert_eq!(open(&disk, 1 << 20).1.len(), 3 * (3 - at));
        }
    }
}

#[test]
fn a_file_for_a_reboot_that_ends_early_is_damaged() {
    let mut bytes = Vec::new();
    frame::begin(&mut bytes);
    frame::push(&mut bytes, FrameKind::Header, text("header"));
    frame::push(&mut bytes, FrameKind::Note, text("stopped"));
    assert_eq!(entries(&Loaded::of_file(bytes.clone()).unwrap()).len(), 2);
    let whole = [frame::PREAMBLE, frame::PREAMBLE + 13 + 6];
    for end in (0..bytes.len()).filter(|end| !whole.contains(end)) {
        assert!(Loaded::of_file(bytes[..end].to_vec()).is_err(), "{end}");
    }
}

/// Writes segments and changes until the process ends. Returns the payloads of the changes that were acknowledged.
fn write(
    disk: &Disk,
    fault: Option<Fault>,
    sizes: &[usize],
    per_segment: usize,
    first: usize,
) -> Vec<Vec<u8>> {
    let mut acknowledged = Vec::new();
    let (mut log, _) = open(disk, 1 << 30);
    disk.set_fault(fault);
    until_killed(|| {
        for (nth, size) in sizes.iter().enumerate() {
            let number = first + nth;
            if nth % per_segment == 0 {
                log.begin_segment(number as u64, text("header")).unwrap();
                log.append(FrameKind::Checkpoint, text("pods")).unwrap();
            }
            let payload = [number.to_le_bytes().to_vec(), vec![7; *size]].concat();
            log.append(FrameKind::Append, |out| out.extend_from_slice(&payload)).unwrap();
            acknowledged.push(payload);
            // The checkpoint ends after a change: both alternate.
            if nth % per_segment == 0 {
                log.finish_checkpoint().unwrap();
            }
        }
    });
    acknowledged
}

fn appended(disk: &Disk) -> Vec<Vec<u8>> {
    let found = open(disk, 1 << 30).1.into_iter();
    found.filter(|(kind, _)| *kind == FrameKind::Append).map(|(_, payload)| payload).collect()
}

/// The result; none if the simulated process is killed.
fn until_killed<R>(process: impl FnOnce() -> R) -> Option<R> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(process)) {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<&str>() && panic.downcast_ref() == Some(&KILLED) => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Appends what a process has written to the model, and checks the log. The change in whose write it was killed may be whole.
fn check(disk: &Disk, model: &mut Vec<Vec<u8>>, acknowledged: Vec<Vec<u8>>) {
    model.extend(acknowledged);
    let found = appended(disk);
    assert!((model.len()..=model.len() + 1).contains(&found.len()), "{} of {}", found.len(), model.len());
    assert_eq!(found[..model.len()], model[..]);
    *model = found;
}

#[test]
fn a_kill_at_any_byte_loses_nothing_that_was_acknowledged_and_the_next_process_continues() {
    let sizes = [0, 5, 40];
    let writes = (0..).take_while(|&at| {
        let mut killed = false;
        for bytes in 0..80 {
            let (disk, mut model) = (Disk::default(), Vec::new());
            let first = write(&disk, None, &sizes, 2, 0);
            check(&disk, &mut model, first);
            let killed_in = write(&disk, Some(Fault::Kill { at, bytes }), &sizes, 2, 3);
            killed |= killed_in.len() < sizes.len();
            check(&disk, &mut model, killed_in);
            let next = write(&disk, None, &sizes, 2, 6);
            check(&disk, &mut model, next);
        }
        killed
    });
    assert_eq!(
        writes.count(),
        10,
        "two segments of four writes each, and three changes; the last write ends a checkpoint"
    );
}

proptest! {
    /// Each process is killed in some write, and the next one begins a segment of its own.
    #[test]
    fn processes_that_are_killed_one_after_another_lose_nothing_that_was_acknowledged(
        processes in prop::collection::vec(
            (prop::collection::vec(0..200usize, 1..12), 1..6usize, 0..40u64, 0..300usize),
            1..7,
        ),
    ) {
        let (disk, mut model) = (Disk::default(), Vec::new());
        for (sizes, per_segment, at, bytes) in processes {
            let first = model.len();
            let acknowledged = write(&disk, Some(Fault::Kill { at, bytes }), &sizes, per_segment, first);
            // Older segments may have been deleted.
            if disk.files().len() >= MAX_SEGMENTS {
                break;
            }
            check(&disk, &mut model, acknowledged);
        }
    }

    #[test]
    fn no_contents_make_reading_panic(files in prop::collection::btree_map("0000000000000000000[0-9]-000000000[0-9]\\.wal", any::<Vec<u8>>(), 0..4)) {
        let disk = Disk::default();
        disk.set_files(files);
        let (mut log, loaded) = Log::open(Box::new(disk.open()), 1 << 20);
        if loaded.is_err() {
            log.set_aside().unwrap();
        }
        prop_assert!(disk.files().keys().all(|name| !name.ends_with(".wal")) || Log::open(Box::new(disk.open()), 1).1.is_ok());
    }
}
