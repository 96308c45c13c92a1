//! The demo's folder: the document and the files that it names.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    layout::{DATABASE_FILE, DOCUMENT_FILE, Layout, SECRET_FILE},
    temporary::Temporary,
};
use crate::geo::replace;
use anyhow::{Context, bail};
use perigee_geo::{
    build::build,
    world::{DemoBase, demo_world},
};
use perigee_node::document::read;
use perigee_protocol::document::keys::{SCHEMA_FILE, schema};

const LOG_FILE: &str = "demo.log";

/// A folder with everything in it that the nodes read. A temporary one is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _temporary: Option<Temporary>,
}

impl Folder {
    /// Makes the folder, or takes the given one, and writes document, database and secret anew.
    pub(crate) fn make(given: Option<&Path>, layout: &Layout) -> anyhow::Result<Self> {
        let temporary = match given {
            Some(folder) => {
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {} (see --folder)", folder.display()))?;
                None
            }
            None => {
                Some(Temporary::make(&std::env::temp_dir()).context("cannot make a temporary folder (see --folder)")?)
            }
        };
        let path = temporary
            .as_ref()
            .map_or_else(|| given.unwrap_or(Path::new(".")).to_owned(), |folder| folder.path().to_owned());
        let folder = Self { path, _temporary: temporary };
        folder.fill(layout)?;
        Ok(folder)
    }

    fn fill(&self, layout: &Layout) -> anyhow::Result<()> {
        let database = build(demo_world(DemoBase::Loopback).as_bytes()).context("cannot build the simulated world")?;
        replace(&self.path.join(DATABASE_FILE), &database)?;
        self.write_secret().context("cannot write the fleet's secret")?;
        replace(&self.path.join(SCHEMA_FILE), schema().as_bytes())?;
        let document = self.path.join(DOCUMENT_FILE);
        replace(&document, layout.document().as_bytes())?;
        // Only what the flags bring in can be wrong here, say a zone that is no name.
        if let Err(error) = read(&document) {
            bail!("these options make no valid CDN:\n{error}");
        }
        Ok(())
    }

    fn write_secret(&self) -> std::io::Result<()> {
        let secret: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path.join(SECRET_FILE))?;
        file.write_all(secret.as_bytes())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where log lines go while the table has the terminal.
    pub(crate) fn log_file(&self) -> anyhow::Result<File> {
        let path = self.path.join(LOG_FILE);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
