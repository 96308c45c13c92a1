//! `perigee-geo` against a server in the machine that speaks MaxMind's protocol.

use anyhow::{Result, ensure};

use super::{has, main_pid, same};
use crate::deb::machine::{Machine, until};

const DATABASE: &str = "/var/lib/perigee/GeoLite2-City.mmdb";
const SERVER: &str = "http://127.0.0.1:8001";
const KEY: &str = "s3cr3t_key";

/// In Perl, which every Debian has: serves FOLDER/EDITION.SUFFIX to whoever has the account's key.
const MAXMIND: &str = r#"
use strict;
use IO::Socket::INET;
my ($folder, $key) = @ARGV;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8001, Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {
    my ($file, $known);
    while (my $line = <$client>) {
        last if $line eq "\r\n";
        $file = "$folder/$1.$2" if $line =~ m{^GET /geoip/databases/([A-Za-z0-9-]+)/download\?suffix=([a-z0-9.]+) };
        $known = 1 if $line =~ /^authorization: Basic \Q$key\E\r/i;
    }
    my ($status, $body) = ("404 Not Found", "");
    if (!$known) { $status = "401 Unauthorized" }
    elsif ($file && open(my $from, "<:raw", $file)) { local $/; $body = <$from>; $status = "200 OK" }
    print $client "HTTP/1.1 $status\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
"#;

pub(super) fn fetch(machine: &Machine) -> Result<()> {
    prepare(machine)?;
    machine.sh("systemctl enable --quiet --now perigee-geo")?;
    arrives(machine, DATABASE)?;
    has("the database", &machine.sh(&format!("perigee geo lookup {DATABASE} 192.0.2.1"))?, "Berlin")?;
    until("the journal telling of it", || said(machine, "checksum verified"))?;
    rights(machine)?;
    second(machine)?;
    failure(machine)
}

/// Databases as MaxMind packs them, the server, the account, and the key where only root can read it.
fn prepare(machine: &Machine) -> Result<()> {
    machine.run(&["sh", "-ec", "mkdir /root/maxmind; printf %s \"$1\" >/root/maxmind/server.pl", "sh", MAXMIND])?;
    machine.sh(&format!(
        "cd /root/maxmind
         printf 'prefix,country,city,lat,lon\\n192.0.2.0/24,DE,Berlin,52.5,13.4\\n' >City.csv
         printf 'prefix,asn\\n192.0.2.0/24,64500\\n' >ASN.csv
         for kind in City ASN; do
             edition=GeoLite2-$kind
             mkdir $edition; perigee geo build $kind.csv $edition/$edition.mmdb
             tar -czf $edition.tar.gz $edition; sha256sum $edition.tar.gz >$edition.tar.gz.sha256
         done
         umask 077; echo {KEY} >/etc/perigee/maxmind.key
         sed -i 's|^#PERIGEE_MAXMIND_ACCOUNT_ID|PERIGEE_MAXMIND_ACCOUNT_ID|
                 s|^#PERIGEE_GEO_SERVER=.*|PERIGEE_GEO_SERVER={SERVER}|' /etc/perigee/geo.env
         systemd-run --quiet --unit=maxmind perl /root/maxmind/server.pl /root/maxmind $(printf 123456:{KEY} | base64)"
    ))?;
    until("the server's answers", || Ok(machine.host(&["curl", "--silent", SERVER]).ok()))?;
    Ok(())
}

/// Waits for a database, and looks whose it is.
fn arrives(machine: &Machine, path: &str) -> Result<()> {
    until(&format!("{path} being there"), || Ok(machine.sh(&format!("test -s {path}")).ok()))?;
    same("the database", &machine.sh(&format!("stat -c '%a %U:%G' {path}"))?, "640 perigee:perigee")
}

fn said(machine: &Machine, text: &str) -> Result<Option<String>> {
    let journal = machine.sh("journalctl --no-pager --unit=perigee-geo")?;
    Ok(journal.contains(text).then_some(journal))
}

fn rights(machine: &Machine) -> Result<()> {
    let pid = main_pid(machine, "geo")?;
    let rights = machine.sh(&format!("cat /proc/{pid}/status"))?;
    let user = machine.sh("id -u perigee")?;
    for part in [&*format!("Uid:\t{user}\t{user}"), "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        has("perigee-geo", &rights, part)?;
    }
    has("perigee-geo", &rights, "NoNewPrivs:\t1")?;
    has("perigee-geo", &rights, "Seccomp:\t2")?;
    // The key is no variable, and only root can read where it comes from.
    let environment = machine.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ"))?;
    ensure!(!environment.contains(KEY), "the key is in the environment");
    same("the key", &machine.sh("stat -c '%a %U:%G' /etc/perigee/maxmind.key")?, "600 root:root")?;
    machine.sh("systemd-analyze security --threshold=30 perigee-geo.service").map(drop)
}

/// Another database beside it, as docs/packages.md has it.
fn second(machine: &Machine) -> Result<()> {
    machine.sh(
        "cd /etc/perigee
         sed s/geo.env/geo-asn.env/ /usr/lib/systemd/system/perigee-geo.service >/etc/systemd/system/perigee-geo-asn.service
         sed s/GeoLite2-City/GeoLite2-ASN/ geo.env >geo-asn.env
         systemctl daemon-reload; systemctl start perigee-geo-asn",
    )?;
    arrives(machine, "/var/lib/perigee/GeoLite2-ASN.mmdb")?;
    machine
        .sh("systemctl stop perigee-geo-asn; rm /etc/systemd/system/perigee-geo-asn.service; systemctl daemon-reload")
        .map(drop)
}

/// Without a server, and without a key, the old database stays, the journal tells why, and the unit goes on.
fn failure(machine: &Machine) -> Result<()> {
    let sum = format!("sha256sum {DATABASE}; stat -c %i {DATABASE}");
    let before = machine.sh(&sum)?;
    let check = |change: &str, text: &str| -> Result<()> {
        machine.sh(&format!("{change}; systemctl restart perigee-geo"))?;
        let journal = until("the reason in the journal", || said(machine, text))?;
        has("the journal", &journal, "trying again in 60 s")?;
        ensure!(!journal.contains(KEY), "the journal has the key");
        same("the unit", &machine.sh("systemctl is-active perigee-geo")?, "active")?;
        same("the old database", &machine.sh(&sum)?, &before)
    };
    // Gone: nothing listens there.
    check("systemctl stop maxmind", "refused")?;
    check("rm /etc/perigee/maxmind.key", "a licence key is wanted")?;
    // What cannot be understood is not tried again.
    machine.sh("cp /etc/perigee/geo.env /root/geo.env; sed -i 's|^PERIGEE_GEO_EVERY=.*|PERIGEE_GEO_EVERY=soon|' /etc/perigee/geo.env
         systemctl restart perigee-geo || true")?;
    until("the unit's failure", || {
        let state = machine.sh("systemctl show --property=ActiveState,NRestarts perigee-geo")?;
        Ok((state.contains("ActiveState=failed") && state.contains("NRestarts=0")).then_some(()))
    })?;
    until("the mistake in the journal", || said(machine, "must be a duration"))?;
    machine
        .sh("cp /root/geo.env /etc/perigee/geo.env; systemctl reset-failed perigee-geo; systemctl start perigee-geo")
        .map(drop)
}
