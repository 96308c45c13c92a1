//! A file mapped read-only: the one place of the workspace that holds `unsafe`.
//!
//! **Trap.** Reading a page of a mapped file that was truncated since raises SIGBUS and ends the process, and one that
//! is written in place changes under its reader. Replace such a file by renaming a new one over it (the old one lives
//! on as long as it is mapped), never by writing into it.

use std::{fs::File, io, path::Path};

use crate::regular;

/// A whole file in memory, without a copy: pages come and go with the system's cache. See the module for the trap.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps the file as it is now. An empty file is an error of kind `UnexpectedEof`; a folder or a device one of
    /// kind `InvalidInput`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = regular::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        map(&file).map(Self)
    }
}

#[expect(unsafe_code, reason = "there is no safe way to map a file; the 57 MB geo database would be 57 MB a node")]
fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is private and read-only, and lives no longer than the `Mmap`. That nobody truncates or rewrites
    // the file in place is the operator's part, which the module's documentation and the manual say.
    unsafe { memmap2::Mmap::map(file) }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_stays_as_it_was_mapped() {
        fn is_shareable<T: Send + Sync + AsRef<[u8]>>(_: &T) {}
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "old").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        is_shareable(&mapped);
        std::fs::write(&next, "new and longer").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(mapped.as_ref(), b"old");
        assert_eq!(MappedFile::open(&path).unwrap().as_ref(), b"new and longer");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path, expected: io::ErrorKind| {
            assert_eq!(MappedFile::open(path).unwrap_err().kind(), expected, "{}", path.display());
        };
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        check(&empty, io::ErrorKind::UnexpectedEof);
        check(folder.path(), io::ErrorKind::InvalidInput);
        check(&folder.path().join("absent"), io::ErrorKind::NotFound);
    }
}
