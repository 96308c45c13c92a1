//! What was downloaded → a database file: as it is, out of gzip, or out of a tar.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use flate2::read::MultiGzDecoder;

use super::aside::{Ended, Until};

/// Of all that comes out of an archive; the largest databases that are sold have about 1 GiB.
pub(super) const DATABASE_BYTES_MAX: u64 = 4 << 30;
/// Entries of a tar that are looked at.
const TAR_ENTRIES_MAX: usize = 1_000;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
/// A header of a tar, which says `ustar` at [`USTAR_AT`].
const TAR_BLOCK_BYTES: usize = 512;
const USTAR_AT: usize = 257;

/// Writes the database that is in `archive`; takes seconds, and goes on for as long as somebody waits for it.
pub(super) fn unpack(archive: &Path, database: &mut File, ended: &Ended) -> anyhow::Result<()> {
    let mut file = Until { from: File::open(archive)?, ended };
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(2).read_to_end(&mut magic)?;
    let rest = io::Cursor::new(magic.clone()).chain(file);
    if magic == GZIP_MAGIC { unpack_plain(MultiGzDecoder::new(rest), database) } else { unpack_plain(rest, database) }
}

fn unpack_plain(mut plain: impl Read, database: &mut File) -> anyhow::Result<()> {
    let mut head = Vec::new();
    let unread = "what was downloaded cannot be unpacked";
    Read::by_ref(&mut plain).take(TAR_BLOCK_BYTES as u64).read_to_end(&mut head).context(unread)?;
    let is_tar = head.get(USTAR_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let plain = io::Cursor::new(head).chain(plain);
    if !is_tar {
        return copy(plain, database);
    }
    // What is only skipped has to be unpacked too.
    let plain = Limited { plain, left: DATABASE_BYTES_MAX };
    // Raw: a header's extensions, which are read into memory at whatever length they claim, say nothing that is wanted here.
    for entry in tar::Archive::new(plain).entries()?.raw(true).take(TAR_ENTRIES_MAX) {
        let entry = entry.context(unread)?;
        let is_database = entry.path().is_ok_and(|path| path.extension().is_some_and(|extension| extension == "mmdb"));
        if is_database && entry.header().entry_type().is_file() {
            return copy(entry, database);
        }
    }
    bail!("what was downloaded is a tar without any .mmdb in it")
}

/// Fails where more than so much comes.
struct Limited<R> {
    plain: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let len = self.plain.read(piece)?;
        self.left = self
            .left
            .checked_sub(len as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {DATABASE_BYTES_MAX} bytes")))?;
        Ok(len)
    }
}

fn copy(mut from: impl Read, to: &mut File) -> anyhow::Result<()> {
    let mut piece = vec![0; 1 << 16];
    let mut total = 0_u64;
    loop {
        let len = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("what was downloaded cannot be unpacked"),
        };
        total += len as u64;
        ensure!(total <= DATABASE_BYTES_MAX, "what was downloaded unpacks to more than {DATABASE_BYTES_MAX} bytes");
        to.write_all(piece.get(..len).unwrap_or_default()).context("the database cannot be written")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_exact() {
        let read = |left: u64| Limited { plain: &b"12345"[..], left }.read_to_end(&mut Vec::new()).ok();
        assert_eq!((read(5), read(4)), (Some(5), None));
    }

    /// One entry of a tar: `kind` as its type flag, `claimed` as its size.
    fn header(name: &str, kind: tar::EntryType, claimed: u64) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(claimed);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn unpacked(tar: &[u8]) -> Result<Vec<u8>, String> {
        let mut file = tempfile::tempfile().unwrap();
        unpack_plain(tar, &mut file).map_err(|error| format!("{error:#}"))?;
        io::Seek::rewind(&mut file).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    #[test]
    fn what_a_tar_may_try() {
        use tar::EntryType as Kind;
        let block = |text: &[u8]| [text, &vec![0; 512 - text.len()]].concat();
        let good = [header("x/a.mmdb", Kind::Regular, 4), block(b"good")].concat();
        assert_eq!(unpacked(&good).unwrap(), b"good");
        // Where it would be put is nobody's business: only what is in it is taken.
        let odd = [&header("b.mmdb", Kind::Symlink, 0)[..], &header("c.mmdb", Kind::Directory, 0), &good].concat();
        assert_eq!(unpacked(&odd).unwrap(), b"good");
        // Extensions: of names, of whole archives, of everything.
        for kind in [Kind::XHeader, Kind::XGlobalHeader, Kind::GNULongName, Kind::GNULongLink] {
            let bomb = header("x", kind, 1 << 40);
            assert!(unpacked(&bomb).is_err());
            let led = [&header("x", kind, 3)[..], &block(b"abc"), &good].concat();
            assert_eq!(unpacked(&led).unwrap(), b"good", "{kind:?}");
        }
    }
}
