//! Sizes as flags say them: `256MiB`, and `DIR:10GiB` for a cache folder; sizes are written as in the document.

use std::{fmt, path::PathBuf, str::FromStr};

use perigee_protocol::document::{parse_size, render_size};

/// A number of bytes, written as a whole number and one of B, KiB, MiB, GiB, TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a whole number and a unit (B, KiB, MiB, GiB or TiB), for example 256MiB")]
pub struct InvalidSize;

impl FromStr for MemorySize {
    type Err = InvalidSize;
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        parse_size(text).map(Self).ok_or(InvalidSize)
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_size(self.0))
    }
}

/// A cache folder and how much of the disk it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Made when it is missing.
    pub folder: PathBuf,
    /// Bytes on disk.
    pub size: MemorySize,
}

/// Why a text is no disk cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDiskSpec {
    /// No `:` or nothing before it.
    #[error("a disk cache is a folder and a size, for example /var/cache/perigee:10GiB")]
    Shape,
    /// What follows the last `:` is no size.
    #[error(transparent)]
    Size(#[from] InvalidSize),
}

impl FromStr for DiskSpec {
    type Err = InvalidDiskSpec;
    fn from_str(text: &str) -> Result<Self, InvalidDiskSpec> {
        let (folder, size) =
            text.rsplit_once(':').filter(|(folder, _)| !folder.is_empty()).ok_or(InvalidDiskSpec::Shape)?;
        Ok(Self { folder: folder.into(), size: size.parse()? })
    }
}

impl fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.folder.display(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(text.parse().ok(), expected.map(MemorySize), "{text}");
        };
        check("256MiB", Some(256 << 20));
        check("10GiB", Some(10 << 30));
        check("0B", Some(0));
        check("16777215TiB", Some(16_777_215 << 40));
        check("16777216TiB", None);
        for bad in ["", "MiB", "256", "256MB", "256 MiB", "-1MiB", "+1MiB", "1.5GiB", "256mib", "99999999999999999999B"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_read() {
        for text in ["256MiB", "1023KiB", "1GiB", "1025B", "2TiB", "0B"] {
            assert_eq!(text.parse::<MemorySize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn disks() {
        let disk: DiskSpec = "/a:b/c:10GiB".parse().unwrap();
        assert_eq!(disk, DiskSpec { folder: "/a:b/c".into(), size: MemorySize(10 << 30) });
        assert_eq!("/a".parse::<DiskSpec>(), Err(InvalidDiskSpec::Shape));
        assert_eq!(":1GiB".parse::<DiskSpec>(), Err(InvalidDiskSpec::Shape));
        assert_eq!("/a:b".parse::<DiskSpec>(), Err(InvalidDiskSpec::Size(InvalidSize)));
    }
}
