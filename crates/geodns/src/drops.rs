//! Datagrams that nobody read: what the system dropped because a socket's buffer was full, by what Linux tells of its sockets when
//! somebody scrapes. No question pays for it.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

/// By family (proc_pid_net(5)). A nameserver's own network namespace: `self`.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];

/// Counts what was dropped at these addresses.
#[derive(Debug)]
pub(crate) struct Drops(Box<[SocketAddr]>);

impl Drops {
    pub(crate) fn new(addresses: &[SocketAddr]) -> Self {
        Self(addresses.into())
    }
}

impl Collector for Drops {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tables: Vec<String> = TABLES.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
        if tables.is_empty() {
            // Another system, or no /proc: better no figure than 0.
            return Ok(());
        }
        let dropped: u64 = tables.iter().map(|table| dropped(table, &self.0)).sum();
        let (name, help) = (
            "perigee_dns_receive_dropped",
            "Datagrams that the system dropped before they were read, since the socket's buffer was full.",
        );
        ConstCounter::new(dropped).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}

/// Of a table, the drops of all sockets that are bound to one of the addresses: each core has one.
fn dropped(table: &str, addresses: &[SocketAddr]) -> u64 {
    let of_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = address(fields.nth(1)?)?;
        let drops = fields.next_back()?.parse::<u64>().ok()?;
        addresses.contains(&local).then_some(drops)
    };
    // The first line names the columns.
    table.lines().skip(1).filter_map(of_line).fold(0, u64::saturating_add)
}

/// `0100007F:0035`: the address as 32-bit words, each as this machine keeps it in memory; the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |place: usize| Some(u32::from_str_radix(address.get(place * 8..place * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (place, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(place)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use prometheus_client::registry::Registry;

    use super::*;

    /// How this machine writes an address.
    fn written(address: SocketAddr) -> String {
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = octets.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
        format!("{}:{:04X}", words.map(|word| format!("{word:08X}")).collect::<String>(), address.port())
    }

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:53", "0.0.0.0:0", "192.0.2.7:65535", "[::1]:53", "[::]:53", "[2001:db8::1:2]:8053"] {
            let expected: SocketAddr = text.parse().unwrap();
            assert_eq!(address(&written(expected)), Some(expected));
        }
        for bad in [
            "",
            "0100007F",
            "0100007F:",
            "0100007:0035",
            "0100007FF:0035",
            "0100007G:0035",
            "0100007F:10035",
            "é€€:0035",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn those_of_our_sockets_are_added_up() {
        let ours: SocketAddr = "192.0.2.1:53".parse().unwrap();
        let line = |address: &str, drops: &str| {
            let address = written(address.parse().unwrap());
            format!(
                "  10: {address} 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 4711 2 0000000000000000 {drops}\n"
            )
        };
        let table = [
            "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n".to_owned(),
            line("192.0.2.1:53", "7"),
            line("192.0.2.1:53", "35"),
            line("192.0.2.2:53", "1000"),
            line("192.0.2.1:54", "1000"),
            line("192.0.2.1:53", "many"),
            "cut\n".to_owned(),
        ]
        .concat();
        assert_eq!(dropped(&table, &[ours]), 42);
        assert_eq!(dropped(&table, &[]), 0);
        assert_eq!(dropped("", &[ours]), 0);
    }

    /// What the kernel writes, and not what this file believes.
    #[test]
    fn a_socket_that_nobody_reads_drops() {
        if fs::read_to_string(TABLES[0]).is_err() {
            eprintln!("skipped: no {}", TABLES[0]);
            return;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, sender) = (socket.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Drops::new(&[address])));
        let told = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("perigee_dns_receive_dropped_total "));
            line.unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(told(), 0);
        // No buffer holds as much.
        for sent in 0_u64.. {
            sender.send_to(&[0; 1400], address).unwrap();
            if sent % 1_000 == 0 && told() > 0 {
                break;
            }
        }
    }
}
