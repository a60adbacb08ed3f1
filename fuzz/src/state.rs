//! The files of the state on disk: no contents cause a panic, a damaged file is never used, and plegd can always begin a new log.

use std::collections::BTreeMap;

use plegd::state::{
    Frame, FrameKind, Loaded, Log,
    frame::{self, FrameError, HEADER, PREAMBLE},
    storage::Disk,
};

use super::input::Input;

const MAX_BYTES: u64 = 1 << 30;
const KINDS: [FrameKind; 5] =
    [FrameKind::Header, FrameKind::Checkpoint, FrameKind::CheckpointEnd, FrameKind::Append, FrameKind::Note];

type Entry = (FrameKind, Vec<u8>);

/// Runs one input: as the contents of files, or as what a process writes and what then happens to its files.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.chance(128) {
        written(&mut input);
    } else {
        file_for_a_reboot(bytes.get(1..).unwrap_or_default());
        segments(&mut input);
    }
}

/// Segments and files for a reboot, and processes that write a log.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut segment = Vec::new();
    frame::begin(&mut segment);
    for kind in KINDS {
        frame::push(&mut segment, kind, |out| out.extend_from_slice(b"payload"));
    }
    let counted = |file: &[u8]| [&u16::try_from(file.len()).unwrap_or(0).to_le_bytes(), file].concat();
    let two = [vec![0], counted(&segment), counted(&segment)].concat();
    let torn = [vec![0], counted(&segment), counted(&segment[..segment.len() - 3])].concat();
    let empty = [vec![0], counted(&segment), counted(&[])].concat();
    let mut seeds = vec![[&[0], &segment[..]].concat(), two, torn, empty];
    seeds.extend(super::seeds::of_choices(8, 200).into_iter().map(|it| [vec![255], it].concat()));
    seeds
}

fn entries<'a>(frames: impl Iterator<Item = Frame<'a>>) -> Vec<Entry> {
    frames.map(|frame| (frame.kind, frame.payload.to_vec())).collect()
}

fn encoded(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::begin(&mut bytes);
    entries
        .iter()
        .for_each(|(kind, payload)| frame::push(&mut bytes, *kind, |out| out.extend_from_slice(payload)));
    bytes
}

/// A file for a reboot is used as a whole or not at all.
fn file_for_a_reboot(bytes: &[u8]) {
    match Loaded::of_file(bytes.to_vec()) {
        Ok(loaded) => assert_eq!(encoded(&entries(loaded.frames())), bytes),
        Err(FrameError::Damaged(at)) => assert!(at <= bytes.len()),
        Err(FrameError::Magic | FrameError::Version(_)) => assert!(!bytes.starts_with(&encoded(&[]))),
    }
}

/// Up to four files with the names of segments.
fn segments(input: &mut Input<'_>) {
    let mut files = BTreeMap::new();
    while !input.is_empty() && files.len() < 4 {
        files.insert(format!("{:020}-{:010}.wal", 1, files.len()), input.counted().to_vec());
    }
    let disk = Disk::default();
    let size = files.values().map(Vec::len).sum::<usize>();
    disk.set_files(files);
    if let Ok(loaded) = Log::open(Box::new(disk.open()), MAX_BYTES).1 {
        let used: usize = loaded.frames().map(|frame| HEADER + frame.payload.len()).sum();
        let begun = disk.files().len();
        let total = used + PREAMBLE * begun + loaded.torn_bytes();
        assert_eq!(total, size, "each byte is read or counted as torn");
    }
    continues(&disk);
}

/// A new process loads the log or sets it aside, and writes a segment that the next process loads.
fn continues(disk: &Disk) {
    let (mut log, loaded) = Log::open(Box::new(disk.open()), MAX_BYTES);
    let mut expected = match loaded {
        Ok(loaded) => entries(loaded.frames()),
        Err(_) => {
            assert!(log.set_aside().is_ok());
            Vec::new()
        }
    };
    assert!(log.begin_segment(2, |out| out.extend_from_slice(b"header")).is_ok());
    assert!(log.finish_checkpoint().is_ok());
    expected.extend([(FrameKind::Header, b"header".to_vec()), (FrameKind::CheckpointEnd, Vec::new())]);
    match Log::open(Box::new(disk.open()), MAX_BYTES).1 {
        Ok(loaded) => assert_eq!(entries(loaded.frames()), expected),
        Err(error) => panic!("the next process cannot load the log: {error}"),
    }
}

/// A process writes a log. Then its newest segment is cut, or one bit of its files changes.
fn written(input: &mut Input<'_>) {
    let disk = Disk::default();
    let mut log = Log::open(Box::new(disk.open()), MAX_BYTES).0;
    let (place, bit, cut) = (input.long(), input.below(8), input.chance(128));
    let mut expected = Vec::new();
    for segment in 0..=input.below(3) {
        let header = input.bytes(segment);
        assert!(log.begin_segment(segment as u64, |out| out.extend_from_slice(header)).is_ok());
        expected.push((FrameKind::Header, header.to_vec()));
        for _ in 0..input.below(6) {
            let kind = input.pick(&[FrameKind::Checkpoint, FrameKind::Append, FrameKind::Note]);
            let length = input.byte();
            let payload = input.bytes(length.into());
            assert!(log.append(kind, |out| out.extend_from_slice(payload)).is_ok());
            expected.push((kind, payload.to_vec()));
        }
        assert!(log.finish_checkpoint().is_ok());
        expected.push((FrameKind::CheckpointEnd, Vec::new()));
    }
    drop(log);
    let mut files = disk.files();
    if cut {
        if let Some(newest) = files.values_mut().next_back() {
            newest.truncate(remainder(place, newest.len() + 1));
        }
    } else if let Some(file) = files.values_mut().nth(remainder(place >> 32, disk.files().len())) {
        let at = remainder(place & 0xffff_ffff, file.len());
        file[at] ^= 1 << bit;
    }
    disk.set_files(files);
    match Log::open(Box::new(disk.open()), MAX_BYTES).1 {
        Ok(loaded) => {
            let found = entries(loaded.frames());
            assert!(cut, "a changed bit is not noticed");
            assert_eq!(found, expected[..found.len()], "the log is what was written before the cut");
        }
        Err(error) => assert!(!cut, "the newest segment may end anywhere: {error}"),
    }
    continues(&disk);
}

fn remainder(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).unwrap_or_default()
}
