//! A file of dnstap: a stream of frames without anybody to speak with. One that is there is gone on with.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::frames::{self, Control, FRAME_BYTES_MAX, invalid};

/// Refuses what cannot be written, and what is something else.
pub(super) fn check(path: &Path) -> io::Result<()> {
    open(path).map(drop)
}

/// Opened, and where its frames begin; None: it is empty.
fn open(path: &Path) -> io::Result<(fs::File, Option<u64>)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(invalid("it is no regular file"));
    }
    if about.len() == 0 {
        return Ok((file, None));
    }
    match frames::read_control(&mut file) {
        Ok(Control::Start) => {
            let begin = file.stream_position()?;
            Ok((file, Some(begin)))
        }
        _ => Err(invalid("it is there and has something else than dnstap in it")),
    }
}

/// A file that is written.
#[derive(Debug)]
pub(super) struct TapFile {
    file: fs::File,
    /// Where the last whole frame ends.
    end: u64,
}

impl TapFile {
    /// Opens the file behind its last whole frame; what follows that, the word of the end too, goes. Reads all of it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, begin) = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(invalid("another process writes it")),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let Some(begin) = begin else {
            let start = Control::Start.frame();
            let mut file = Self { file, end: 0 };
            let (_, result) = file.append(&start);
            result?;
            file.end = start.len() as u64;
            return Ok(file);
        };
        let end = end_of_frames(&file, begin)?;
        file.set_len(end)?;
        (&file).seek(SeekFrom::Start(end))?;
        Ok(Self { file, end })
    }

    /// Appends whole frames. After an error the file ends with the last that went in whole; tells how much that was.
    pub(super) fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let (written, result) = self.append(bytes);
        let (_, whole) = frames::whole(bytes, written);
        self.end += whole as u64;
        if result.is_err() {
            // One that cannot even be cut is opened anew before the next frame.
            drop(self.cut());
        }
        (whole, result)
    }

    /// Whether it ends where its last whole frame does.
    pub(super) fn is_sound(&self) -> bool {
        (&self.file).stream_position().is_ok_and(|position| position == self.end)
    }

    /// Says that this was all.
    pub(super) fn stop(mut self) -> io::Result<()> {
        self.append(&Control::Stop.frame()).1
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end)).map(drop)
    }

    fn append(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        write_counted(&mut self.file, bytes)
    }
}

/// As `write_all`, and tells how much was written before an error.
pub(super) fn write_counted(to: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// From the first data frame at `begin` on, the end of the last that is whole.
fn end_of_frames(file: &fs::File, begin: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(begin))?;
    let mut end = begin;
    while end + 4 <= length {
        let frame = frames::read_u32(&mut reader.by_ref().take(4))?;
        let next = end + 4 + u64::from(frame);
        // Zero escapes a control frame: the word of the end.
        if frame == 0 || frame as usize > FRAME_BYTES_MAX || next > length {
            break;
        }
        reader.seek_relative(frame.into())?;
        end = next;
    }
    Ok(end)
}
