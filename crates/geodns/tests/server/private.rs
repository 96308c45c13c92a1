//! A nameserver with a certificate, and clients that trust it.

use std::{net::SocketAddr, sync::Arc};

use perigee_geodns::{DocumentSource, EncryptedListen, ListenAt, Options};
use perigee_testkit::{
    certificates::{Authority, Issued},
    patiently,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::bench::*;

pub(crate) const HOST: &str = "ns1.cdn.example";
/// EDNS with an empty padding option.
pub(crate) const PADDED: &[u8] = &[0, 12, 0, 0];
/// EDNS that asks how long an idle connection is kept.
pub(crate) const KEEPALIVE: &[u8] = &[0, 11, 0, 0];

/// A document with a certificate for its nameservers.
pub(crate) fn certified() -> String {
    unprobed().replace("[geo]\n", "[cdn.dns_tls]\ncertificate = \"ns.pem\"\nkey = \"ns.key\"\n[geo]\n")
}

pub(crate) struct Private {
    pub(crate) bench: Bench,
    pub(crate) authority: Authority,
}

impl Private {
    pub(crate) async fn start() -> Self {
        Self::start_told(|_| {}).await
    }

    pub(crate) async fn start_told(tell: impl FnOnce(&mut Options)) -> Self {
        let authority = Authority::default();
        let issued = authority.issue(&[HOST]);
        let bench = Bench::start_told(&certified(), |options| {
            write(options, &issued);
            let loopback = || ListenAt::At(vec!["127.0.0.53:0".parse().unwrap()]);
            options.encrypted = EncryptedListen { tls: loopback(), https: loopback(), quic: loopback() };
            tell(options);
        })
        .await;
        Self { bench, authority }
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.bench.running.tls_addrs()[0]
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.bench.running.https_addrs()[0]
    }

    pub(crate) fn quic(&self) -> SocketAddr {
        self.bench.running.quic_addrs()[0]
    }

    pub(crate) fn config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        Arc::new(self.authority.client_config(alpn))
    }

    /// A handshake from an address of one's choice.
    pub(crate) async fn connect(
        &self,
        from: &str,
        to: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        patiently("a handshake", async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from.parse::<std::net::IpAddr>().unwrap(), 0).into())?;
            let stream = socket.connect(to).await?;
            let name = ServerName::try_from(HOST).unwrap();
            TlsConnector::from(Arc::clone(config)).connect(name, stream).await
        })
        .await
    }

    /// Waits until the metrics say so.
    pub(crate) async fn metrics_say(&self, line: &str) {
        patiently(line, async {
            while !self.bench.admin("/metrics").await.contains(line) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// Puts a pair where the document says.
pub(crate) fn write(options: &Options, issued: &Issued) {
    let DocumentSource::File(document) = &options.document else { panic!("a document in a file") };
    issued.write(document.parent().unwrap(), "ns");
}

/// A query with EDNS options.
pub(crate) fn query_with(id: u16, name: &str, kind: u16, options: &[u8]) -> Vec<u8> {
    let mut message = query(id, name, kind);
    message[11] = 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    message.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
    message.extend(options);
    message
}

/// The bytes of the next reply.
pub(crate) async fn read_reply(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let length = patiently("a length", stream.read_u16()).await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    patiently("a reply", stream.read_exact(&mut reply)).await.unwrap();
    reply
}

pub(crate) async fn ask_tls(stream: &mut TlsStream<TcpStream>, message: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(message)).await.unwrap();
    read_reply(stream).await
}
