//! The options of an answer's OPT record: each in return for what the query had.

use crate::{
    arrival::Transport,
    code::{OPTION_ECS, OPTION_EXTENDED_ERROR, OPTION_KEEPALIVE, OPTION_NSID, OPTION_PADDING},
    cookie::OPTION_COOKIE,
    query::Edns,
    snapshot::Service,
};

/// What comes before an option's data.
const OPTION_HEAD_BYTES: usize = 4;
const COOKIE_BYTES: usize = 24;
/// RFC 8467 §4.1: answers over encrypted transports end at a multiple of so many bytes.
const PADDING_BLOCK_BYTES: usize = 468;
/// Longer names of nodes are cut.
const NSID_BYTES_MAX: usize = 64;

/// What an answer says in OPT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// Of the answer (RFC 7871 §6).
    pub(crate) scope: u8,
    /// The server's part of a cookie.
    pub(crate) cookie: Option<[u8; 16]>,
    /// RFC 8914 §4
    pub(crate) extended_error: Option<u16>,
}

/// How many bytes [`write`] takes at most beside records: an extended error stands where there are none, and padding takes
/// what is left.
pub(crate) fn bytes_max(edns: &Edns, transport: Transport, service: &Service) -> usize {
    let option = |is_there: bool, bytes: usize| if is_there { OPTION_HEAD_BYTES + bytes } else { 0 };
    option(edns.subnet.is_some(), edns.subnet.map_or(0, |subnet| subnet.len()))
        + option(edns.cookie.is_some(), COOKIE_BYTES)
        + option(edns.nsid, nsid(service).len())
        + option(edns.keepalive && transport.has_keepalive(), 2)
}

fn nsid(service: &Service) -> &[u8] {
    service.nsid.get(..NSID_BYTES_MAX).unwrap_or(&service.nsid)
}

/// Appends the options. `out` holds the whole answer before them; with padding it ends at a block's end, but not beyond
/// `limit`.
pub(crate) fn write(edns: &Edns, transport: Transport, service: &Service, said: Said, limit: usize, out: &mut Vec<u8>) {
    let option = |out: &mut Vec<u8>, code: u16, length: usize| {
        out.extend(code.to_be_bytes());
        // Each is far below 64 KiB.
        out.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
    };
    if let Some(subnet) = edns.subnet {
        option(out, OPTION_ECS, subnet.len());
        subnet.write(said.scope, out);
    }
    if let (Some(shown), Some(server)) = (edns.cookie, said.cookie) {
        option(out, OPTION_COOKIE, COOKIE_BYTES);
        out.extend(shown.client);
        out.extend(server);
    }
    if edns.nsid {
        option(out, OPTION_NSID, nsid(service).len());
        out.extend(nsid(service));
    }
    // RFC 7828 §3.2.2: of connections only.
    if edns.keepalive && transport.has_keepalive() {
        option(out, OPTION_KEEPALIVE, 2);
        out.extend(service.keepalive_ds.to_be_bytes());
    }
    if let Some(code) = said.extended_error {
        option(out, OPTION_EXTENDED_ERROR, 2);
        out.extend(code.to_be_bytes());
    }
    // RFC 7830 §6: never in the clear, and only for those who pad themselves.
    if edns.padded && transport.is_encrypted() {
        let bare = out.len() + OPTION_HEAD_BYTES;
        let padded = bare.next_multiple_of(PADDING_BLOCK_BYTES).min(limit);
        if padded >= bare {
            option(out, OPTION_PADDING, padded - bare);
            out.resize(padded, 0);
        }
    }
}
