//! The fleet's secret, read from the file that `cdn.secret_file` names.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use perigee_protocol::proof::{FleetSecret, SecretTooShort};

/// The largest secret file, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error(
        "the fleet's secret {path} cannot be read: {source}; make it with `head -c 32 /dev/urandom | base64 > {path}` and give every node the same"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("the fleet's secret {path} is larger than {SECRET_FILE_BYTES_MAX} bytes: is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file says too little.
    #[error("{path}: {source}; make it with `head -c 32 /dev/urandom | base64 > {path}`")]
    TooShort {
        /// The file.
        path: PathBuf,
        /// The law.
        source: SecretTooShort,
    },
}

/// Reads the secret; warns when others than its owner and group may read it too.
pub fn read(path: &Path) -> Result<FleetSecret, SecretError> {
    let unreadable = |source| SecretError::Read { path: path.to_owned(), source };
    let file = crate::regular::open(path).map_err(unreadable)?;
    warn_if_public(&file, path);
    let mut bytes = Vec::new();
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    FleetSecret::new(&bytes).map_err(|source| SecretError::TooShort { path: path.to_owned(), source })
}

fn warn_if_public(file: &File, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        tracing::warn!(path = %path.display(), "everybody on this machine can read the fleet's secret; chmod 640 it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.secret");
        std::fs::write(&path, content).unwrap();
        let said = match read(&path) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn contents() {
        check(b"sixteen bytes ok\n", "ok");
        check(b"short\n", "at least 16 bytes");
        check(&vec![b'x'; 64 * 1024], "ok");
        check(&vec![b'x'; 64 * 1024 + 1], "larger than 65536 bytes");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/fleet.secret")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/fleet.secret cannot be read"), "{error}");
    }
}
