//! `--probe`: asks this machine's own node whether it is alive. Made for images without a shell.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// How long a node may take to connect, and then to answer.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a probe fails.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `--admin off`.
    #[error("--probe asks the admin listener, and --admin is off")]
    NoAdmin,
    /// Nobody is there, or does not answer in time.
    #[error("http://{address}/healthz: {source}")]
    Unreachable {
        /// Of the admin listener.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An answer other than 200.
    #[error("http://{address}/healthz answers {status_line:?}")]
    Unhealthy {
        /// Of the admin listener.
        address: SocketAddr,
        /// The answer's first line.
        status_line: String,
    },
}

/// Asks `GET /healthz` of the admin listener; `admin` is what the node itself was given. A blocking call.
pub fn run(admin: Option<SocketAddr>) -> Result<(), ProbeError> {
    let address = reachable(admin.ok_or(ProbeError::NoAdmin)?);
    let status_line = ask(address).map_err(|source| ProbeError::Unreachable { address, source })?;
    if status_line.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(ProbeError::Unhealthy { address, status_line })
}

/// A listener on every address is asked on loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    // One write: `write!` to a socket sends a segment for each piece of the format.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    stream.take(1024).read_to_end(&mut head)?;
    let first_line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(first_line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn check(answer: &'static str, expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let said = match run(Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{said}");
        assert!(server.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[test]
    fn answers() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok");
        check("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answers \"HTTP/1.1 503 Service Unavailable\"");
        check("", "answers \"\"");
    }

    #[test]
    fn nobody_there() {
        let address = ([127, 0, 0, 1], perigee_testkit::free_port()).into();
        assert!(matches!(run(Some(address)), Err(ProbeError::Unreachable { .. })));
        assert!(matches!(run(None), Err(ProbeError::NoAdmin)));
    }
}
