//! Docker and Compose as the chores use them.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::run::{output, root};

/// Of all containers, networks and volumes; what `deploy/.env` says to people's own docker-compose.
pub(crate) const PROJECT: &str = "perigee";

/// Says what is missing, if anything is, and what to do about it.
pub(crate) fn require() -> Result<()> {
    let info = Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]).output();
    let info = info.context("there is no docker; install it (Debian: apt-get install docker.io docker-compose)")?;
    let version = String::from_utf8_lossy(&info.stdout);
    // The client alone exits with 0 in some versions: only the server's version tells.
    if !info.status.success() || version.trim().is_empty() {
        let complaint = String::from_utf8_lossy(&info.stderr);
        bail!(
            "docker does not answer; start it (systemctl start docker, or dockerd as root), and be root or in the group \
             docker\n{}",
            complaint.trim()
        );
    }
    compose().map(drop)
}

/// `docker compose` (2) or `docker-compose` (1.29) on our file.
pub(crate) fn compose() -> Result<Command> {
    let answers = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let mut command = if answers("docker", &["compose", "version"]) {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        docker
    } else if answers("docker-compose", &["version"]) {
        Command::new("docker-compose")
    } else {
        bail!("there is no docker-compose; install it (Debian: apt-get install docker-compose)");
    };
    let folder = root().join("deploy");
    command.current_dir(&folder).args(["--project-name", PROJECT, "--file"]).arg(folder.join("compose.yaml"));
    Ok(command)
}

/// Builds an image from a folder.
pub(crate) fn build(image: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new("docker");
    // Without its plug-in BuildKit is not there, and our images need nothing of it.
    if !Command::new("docker").args(["buildx", "version"]).output().is_ok_and(|output| output.status.success()) {
        command.env("DOCKER_BUILDKIT", "0");
    }
    output(command.args(["build", "--quiet", "--tag", image]).arg(folder)).map(drop)
}

/// A container as `docker inspect` tells it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) service: String,
    /// `running`, `exited` …
    pub(crate) status: String,
    /// `healthy`, `starting`, `unhealthy`; empty where there is no health check.
    pub(crate) health: String,
}

impl Container {
    pub(crate) fn is_well(&self) -> bool {
        self.status == "running" && matches!(self.health.as_str(), "healthy" | "")
    }
}

/// Every container of the project, stopped ones too.
pub(crate) fn containers() -> Result<Vec<Container>> {
    let label = format!("label=com.docker.compose.project={PROJECT}");
    let ids = output(Command::new("docker").args(["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]))?;
    if ids.trim().is_empty() {
        return Ok(Vec::new());
    }
    let format = "{{index .Config.Labels \"com.docker.compose.service\"}} {{.State.Status}} \
                  {{if .State.Health}}{{.State.Health.Status}}{{end}}";
    let told = output(Command::new("docker").args(["inspect", "--format", format]).args(ids.split_whitespace()))?;
    told.lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Container> {
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut next = || words.next();
    let (Some(service), Some(status)) = (next(), next()) else {
        bail!("docker inspect prints {line:?}");
    };
    Ok(Container { service, status, health: next().unwrap_or_default() })
}

/// The id of a service's container, stopped or not.
pub(crate) fn id(service: &str) -> Result<String> {
    let project = format!("label=com.docker.compose.project={PROJECT}");
    let service_label = format!("label=com.docker.compose.service={service}");
    let mut command = Command::new("docker");
    command.args(["ps", "--all", "--quiet", "--no-trunc", "--filter", &project, "--filter", &service_label]);
    let ids = output(&mut command)?;
    let first = ids.lines().next().map(str::to_owned);
    first.with_context(|| format!("{service} has no container; is the world up? (cargo xtask up)"))
}

/// What a shell line prints in a service's container.
pub(crate) fn shell(service: &str, line: &str) -> Result<String> {
    let run = ["exec", &id(service)?, "/bin/sh", "-c", line];
    output(Command::new("docker").args(run))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn containers_are_well_when_running_and_not_unhealthy() {
        let check = |line: &str, expected: Option<bool>| {
            assert_eq!(parse(line).ok().map(|container| container.is_well()), expected, "{line}");
        };
        check("edge-fra running healthy", Some(true));
        check("edge-fra running starting", Some(false));
        check("edge-fra exited unhealthy", Some(false));
        check("client-fra running ", Some(true));
        check("client-fra restarting ", Some(false));
        check("client-fra", None);
    }
}
