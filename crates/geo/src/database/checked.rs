//! What databases of all kinds have in common: bytes that were checked, and the way from an address to its record.

use std::net::IpAddr;

use ipnet::IpNet;
use maxminddb::{LookupResult, Reader, WithinOptions};

use super::{DatabaseError, DatabaseInfo};
use crate::verify;

/// An IPv4 address is the last 32 bits of an IPv4-mapped one (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_LEN: u8 = 96;

/// A reader over bytes that hang together.
#[derive(Debug)]
pub(crate) struct Checked<S: AsRef<[u8]>> {
    reader: Reader<S>,
    info: DatabaseInfo,
}

impl<S: AsRef<[u8]>> Checked<S> {
    pub(crate) fn from_source(source: S) -> Result<Self, DatabaseError> {
        let metadata_fault = |error: maxminddb::MaxMindDbError| DatabaseError::Metadata(error.to_string());
        let marker = verify::metadata_marker(source.as_ref())?;
        verify::metadata(source.as_ref(), marker)?;
        let metadata = Reader::from_source(source.as_ref()).map_err(metadata_fault)?.metadata().clone();
        let nodes = metadata.node_count;
        verify::walk(source.as_ref(), nodes, metadata.record_size, metadata.ip_version == 6)?;
        let info = DatabaseInfo {
            kind: metadata.database_type,
            built_at_s: metadata.build_epoch,
            ip_version: metadata.ip_version,
            nodes,
        };
        Ok(Self { reader: Reader::from_source(source).map_err(metadata_fault)?, info })
    }

    pub(crate) fn info(&self) -> &DatabaseInfo {
        &self.info
    }

    /// The reader's result and how many bits of `address` led to it. None: an IPv6 address in a database of IPv4, whose
    /// answer is the same for all.
    pub(crate) fn find(&self, address: IpAddr) -> Option<(LookupResult<'_, S>, u8)> {
        let canonical = address.to_canonical();
        let found = self.reader.lookup(canonical).ok()?;
        let prefix_len = match found.network().ok()? {
            network if network.is_ipv4() == canonical.is_ipv4() => network.prefix(),
            // An IPv6 record shorter than ::/96 covers all of IPv4.
            _ => 0,
        };
        // Not a bit of the 96 before it may differ: another address there is no IPv4-mapped one.
        let is_mapped = canonical.is_ipv4() && address.is_ipv6();
        Some((found, if is_mapped { MAPPED_PREFIX_LEN + prefix_len } else { prefix_len }))
    }

    /// Every network that has a record, in order of address; IPv4 comes once, as IPv4.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (IpNet, LookupResult<'_, S>)> {
        let found = self.reader.networks(WithinOptions::default()).into_iter().flatten().flatten();
        found.filter_map(|found| {
            let network = found.network().ok()?;
            Some((IpNet::new(network.ip(), network.prefix()).ok()?.trunc(), found))
        })
    }
}
