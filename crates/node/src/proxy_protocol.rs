//! The PROXY protocol (HAProxy's "PROXY protocol" specification, versions 1 and 2): what a load balancer in front of us says of its client.
//! A pure reader: bytes in, address out. It never asks for a byte that could belong to what follows the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest version 2 header, TLVs included, that is read; the specification lets a sender have 64 KiB.
pub const HEADER_BYTES_MAX: usize = 4096;
/// The longest version 1 line, CRLF included (specification, 2.1).
pub const LINE_BYTES_MAX: usize = 107;

/// What every version 2 header begins with (specification, 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
/// The shortest header there is: `PROXY UNKNOWN` and CRLF.
const SHORTEST: usize = 15;

/// How far a header is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many more bytes belong to it for certain; at least one.
    Need(usize),
    /// It is complete. None: the connection is the balancer's own or its client has no internet address; the
    /// socket's address stands.
    Done(Option<SocketAddr>),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version's beginning.
    #[error("no PROXY protocol header")]
    NoHeader,
    /// A version 1 line that says nothing we know.
    #[error("a malformed PROXY protocol line")]
    Line,
    /// Version 2, but not one that there is.
    #[error("an unknown version or command of the PROXY protocol")]
    Command,
    /// Version 2 with less room than its addresses take.
    #[error("a PROXY protocol header without room for its addresses")]
    Short,
    /// See [`HEADER_BYTES_MAX`] and [`LINE_BYTES_MAX`].
    #[error("a PROXY protocol header that is too long")]
    Long,
}

/// Reads a header of which `bytes` have come.
pub fn read(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes.get(..common) == SIGNATURE.get(..common) && common > 0 {
        return version_2(bytes);
    }
    let common = bytes.len().min(6);
    if bytes.get(..common) != b"PROXY ".get(..common) {
        return Err(ProxyError::NoHeader);
    }
    version_1(bytes)
}

fn version_1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if bytes.len() > LINE_BYTES_MAX {
        return Err(ProxyError::Long);
    }
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        let more = if bytes.last() == Some(&b'\r') { 1 } else { 2 };
        return match bytes.len() {
            LINE_BYTES_MAX.. => Err(ProxyError::Long),
            length => Ok(Progress::Need(SHORTEST.saturating_sub(length).max(more.min(LINE_BYTES_MAX - length)))),
        };
    };
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Specification, 2.1: whatever follows on the line is to be ignored.
        return Ok(Progress::Done(None));
    }
    let mut word = || words.next().ok_or(ProxyError::Line);
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (port(word()?)?, word()?);
    port(destination_port)?;
    let source: IpAddr = source.parse().map_err(|_| ProxyError::Line)?;
    let destination: IpAddr = destination.parse().map_err(|_| ProxyError::Line)?;
    let agrees = match family {
        Some("TCP4") => source.is_ipv4() && destination.is_ipv4(),
        Some("TCP6") => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !agrees || words.next().is_some() {
        return Err(ProxyError::Line);
    }
    Ok(Progress::Done(Some(SocketAddr::new(source, source_port))))
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(ProxyError::Line)
}

fn version_2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        // Until the signature is whole, it may still turn out to be none.
        let whole = if bytes.len() < SIGNATURE.len() { SHORTEST } else { FIXED_BYTES };
        return Ok(Progress::Need(whole.saturating_sub(bytes.len()).max(1)));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyError::Long);
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Command),
    };
    let missing = length.saturating_sub(rest.len());
    if missing > 0 {
        return Ok(Progress::Need(missing));
    }
    if local {
        // Specification, 2.2: the balancer's own connection, a health check say; the rest is to be ignored.
        return Ok(Progress::Done(None));
    }
    let rest = rest.get(..length).unwrap_or_default();
    // Source address, destination address, source port, destination port; then TLVs, which tell us nothing we use.
    let client = match family >> 4 {
        1 => {
            let (addresses, _) = rest.split_first_chunk::<12>().ok_or(ProxyError::Short)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
        }
        2 => {
            let (addresses, ports) = rest.split_first_chunk::<32>().ok_or(ProxyError::Short)?;
            let (source, _) = addresses.split_first_chunk::<16>().ok_or(ProxyError::Short)?;
            let (ports, _) = ports.split_first_chunk::<4>().ok_or(ProxyError::Short)?;
            let [high, low, _, _] = *ports;
            Some(SocketAddr::from((Ipv6Addr::from(*source), u16::from_be_bytes([high, low]))))
        }
        // UNSPEC, UNIX, and what may come: accepted, without an address that we could use.
        _ => None,
    };
    Ok(Progress::Done(client))
}

#[cfg(test)]
mod tests;
