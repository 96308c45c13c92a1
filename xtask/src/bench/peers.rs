//! The other caches: Debian's, each with one worker, without a log, and set up for the scenario as well as we know.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::server::{Server, Setup, free_address, pinned};
use crate::run::output;

/// A cache to compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// In tables and flags.
    pub(super) name: &'static str,
    program: &'static str,
    package: &'static str,
    start: fn(&Setup) -> Result<Server>,
}

pub(super) const PEERS: [Peer; 5] = [
    Peer { name: "haproxy", program: "haproxy", package: "haproxy", start: haproxy },
    // As people write it, and with its files kept open, which they rarely do and which is nginx at its best.
    Peer { name: "nginx", program: "nginx", package: "nginx-light", start: nginx },
    Peer { name: "nginx-open", program: "nginx", package: "nginx-light", start: nginx_open },
    Peer { name: "varnish", program: "varnishd", package: "varnish", start: varnish },
    Peer { name: "ats", program: "traffic_server", package: "trafficserver", start: ats },
];

impl Peer {
    pub(super) fn start(&self, setup: &Setup) -> Result<Server> {
        (self.start)(setup).with_context(|| format!("{} does not run", self.name))
    }

    /// Installs it where that can be done; why not, else.
    pub(super) fn make_present(&self) -> Result<()> {
        if present(self.program) {
            return Ok(());
        }
        if output(Command::new("id").arg("-u"))?.trim() != "0" {
            bail!("{} is not installed: apt-get install {}", self.program, self.package);
        }
        println!("installing {} by apt-get, for {}", self.package, self.name);
        let arguments = ["install", "--quiet", "--yes", "--no-install-recommends", self.package];
        let done = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output()?;
        if present(self.program) {
            return Ok(());
        }
        bail!("{} cannot be installed: {}", self.package, String::from_utf8_lossy(&done.stderr).trim())
    }
}

/// Whether a program is in the path, or where Debian puts servers.
pub(super) fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn haproxy(setup: &Setup) -> Result<Server> {
    let address = free_address()?;
    let file = setup.folder.join("haproxy.cfg");
    let (origin, size) = (setup.origin, setup.memory_mib.min(4095));
    let object = (size << 20) / 2;
    fs::write(
        &file,
        format!(
            "global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
cache bench
  total-max-size {size}
  max-object-size {object}
  max-age 3600
frontend in
  bind {address}
  default_backend out
backend out
  http-request cache-use bench
  http-response cache-store bench
  http-reuse always
  server origin {origin}
"
        ),
    )?;
    let mut command = pinned(Path::new("haproxy"));
    command.args(["-db", "-f"]).arg(file);
    Server::start("haproxy", address, command)
}

fn nginx(setup: &Setup) -> Result<Server> {
    nginx_with("nginx", "", setup)
}

fn nginx_open(setup: &Setup) -> Result<Server> {
    nginx_with("nginx-open", "open_file_cache max=8000;", setup)
}

fn nginx_with(name: &'static str, extra: &str, setup: &Setup) -> Result<Server> {
    let address = free_address()?;
    let folder = &setup.folder.join(name);
    fs::create_dir_all(folder)?;
    let file = folder.join("nginx.conf");
    // Its workers are nobody otherwise, who may not write here. Said by anyone else than root it is only warned of.
    let user = if is_root() { "user root;" } else { "" };
    let (place, origin) = (folder.display(), setup.origin);
    let size = setup.memory_mib.max(setup.disk_mib);
    fs::write(
        &file,
        format!(
            "daemon off; {user} worker_processes 1; pid {place}/nginx.pid; error_log {place}/nginx.err;
events {{ worker_connections 20000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000;
  proxy_cache_path {place}/cache levels=1:2 keys_zone=bench:256m inactive=1h max_size={size}m use_temp_path=off;
  proxy_temp_path {place}/proxy;
  client_body_temp_path {place}/body; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  {extra}
  upstream origin {{ server {origin}; keepalive 64; }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_cache bench; proxy_cache_valid 200 1h; proxy_cache_lock on; proxy_max_temp_file_size 2048m;
    }}
  }}
}}
"
        ),
    )?;
    let mut command = pinned(Path::new("nginx"));
    command.arg("-e").arg(folder.join("nginx.err")).arg("-c").arg(&file).arg("-p").arg(folder);
    Server::start(name, address, command)
}

fn varnish(setup: &Setup) -> Result<Server> {
    let address = free_address()?;
    let folder = setup.folder.join("varnish");
    fs::create_dir_all(&folder)?;
    let mut command = pinned(Path::new("varnishd"));
    if is_root() {
        command.args(["-j", "none"]);
    }
    let storage = match setup.disk_mib {
        0 => format!("malloc,{}M", setup.memory_mib),
        disk => format!("file,{}/objects,{disk}M", folder.display()),
    };
    command.arg("-F").arg("-n").arg(&folder).args(["-a", &address.to_string(), "-b", &setup.origin.to_string()]);
    command.args(["-s", &storage, "-p", "thread_pools=1", "-p", "thread_pool_min=50", "-p", "thread_pool_max=1000"]);
    Server::start("varnish", address, command)
}

fn ats(setup: &Setup) -> Result<Server> {
    let address = free_address()?;
    let folder = setup.folder.join("ats");
    let settings = folder.join("etc");
    for sub in ["etc", "cache", "log", "run"] {
        fs::create_dir_all(folder.join(sub))?;
    }
    let place = folder.display();
    fs::write(settings.join("remap.config"), format!("map / http://{}/\n", setup.origin))?;
    fs::write(settings.join("storage.config"), format!("{place}/cache {}M\n", setup.disk_mib.max(512)))?;
    let everybody = "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n";
    fs::write(settings.join("ip_allow.yaml"), everybody)?;
    for empty in ["plugin.config", "logging.yaml", "parent.config", "hosting.config", "volume.config"] {
        fs::write(settings.join(empty), "")?;
    }
    let user = if is_root() { "trafficserver" } else { "#-1" };
    let records = [
        ("INT", "proxy.config.exec_thread.autoconfig", "0".to_owned()),
        ("INT", "proxy.config.exec_thread.limit", "1".to_owned()),
        ("INT", "proxy.config.accept_threads", "0".to_owned()),
        ("STRING", "proxy.config.http.server_ports", format!("{}:ip-in=127.0.0.1", address.port())),
        ("INT", "proxy.config.log.logging_enabled", "0".to_owned()),
        ("INT", "proxy.config.cache.ram_cache.size", format!("{}", setup.memory_mib << 20)),
        ("INT", "proxy.config.cache.ram_cache_cutoff", format!("{}", 8 << 20)),
        ("STRING", "proxy.config.admin.user_id", user.to_owned()),
        ("INT", "proxy.config.net.connections_throttle", "20000".to_owned()),
        ("INT", "proxy.config.net.max_connections_in", "20000".to_owned()),
        ("STRING", "proxy.config.local_state_dir", format!("{place}/run")),
        ("STRING", "proxy.config.log.logfile_dir", format!("{place}/log")),
        ("INT", "proxy.config.reverse_proxy.enabled", "1".to_owned()),
        ("INT", "proxy.config.http.insert_age_in_response", "1".to_owned()),
    ];
    let text: String = records.map(|(kind, key, value)| format!("CONFIG {key} {kind} {value}\n")).concat();
    fs::write(settings.join("records.config"), text)?;
    let mut command = pinned(Path::new("traffic_server"));
    command.env("PROXY_CONFIG_CONFIG_DIR", &settings).env("TS_ROOT", &folder);
    let runroot = format!(
        "prefix: /usr\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/bin\nsysconfdir: {place}/etc\ndatadir: {place}/cache\n\
         includedir: /usr/include\nlibdir: /usr/lib\nlibexecdir: /usr/lib/trafficserver/modules\n\
         localstatedir: {place}/run\nruntimedir: {place}/run\nlogdir: {place}/log\nmandir: /usr/share/man\n\
         infodir: /usr/share/info\ncachedir: {place}/cache\n"
    );
    let file = folder.join("runroot.yaml");
    fs::write(&file, runroot)?;
    command.arg(format!("--run-root={}", file.display()));
    if is_root() {
        // It refuses to be root, and becomes the user that its package made.
        output(Command::new("chown").arg("-R").arg(user).arg(&folder))?;
    }
    Server::start("ats", address, command)
}
