//! What was downloaded → a database file: as it is, out of gzip, or out of a tar.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use flate2::read::MultiGzDecoder;

/// Of a database; the largest that are sold have about 1 GiB.
pub(super) const DATABASE_BYTES_MAX: u64 = 4 << 30;
/// Entries of a tar that are looked at.
const TAR_ENTRIES_MAX: usize = 1_000;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
/// A header of a tar, which says `ustar` at [`USTAR_AT`].
const TAR_BLOCK_BYTES: usize = 512;
const USTAR_AT: usize = 257;

/// Writes the database that is in `archive`.
pub(super) fn unpack(archive: &Path, database: &mut File) -> anyhow::Result<()> {
    let mut file = File::open(archive)?;
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
    for entry in tar::Archive::new(plain).entries()?.take(TAR_ENTRIES_MAX) {
        let entry = entry.context(unread)?;
        let is_database = entry.path().is_ok_and(|path| path.extension().is_some_and(|extension| extension == "mmdb"));
        if is_database && entry.header().entry_type().is_file() {
            return copy(entry, database);
        }
    }
    bail!("what was downloaded is a tar without any .mmdb in it")
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
