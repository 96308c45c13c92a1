//! `cargo xtask up` and `down`: the world of `deploy/compose.yaml`, ready to be asked.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::{
    docker::{self, compose, containers},
    images,
    run::{output, succeed},
};

/// How long all containers together may take until they are healthy.
const READY_BOUND: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(500);
/// The flag of `up` and of `smoke`.
pub(crate) const NO_DISTANCE: &str = "--no-distance";
const DISTANCE: &str = "PERIGEE_DISTANCE";

const TRY: &str = r#"
The world is up: eight regions, each with an edge, two nameservers and a client. In deploy/:

  docker-compose exec client-tyo dig +short www.cdn.example          # 198.18.81.10, Tokyo's edge
  docker-compose exec client-fra dig +short www.cdn.example          # 198.18.49.10, Frankfurt's
  docker-compose exec client-tyo curl -so /dev/null -D- http://www.cdn.example/    # ask twice, and see Cache-Status
  docker-compose exec client-syd curl -so /dev/null -w '%{time_total} s\n' -H 'Host: www.cdn.example' http://198.18.49.10/
                                                                     # Frankfurt is as far as light in fibre takes
  docker-compose stop edge-tyo                                       # ... and Tokyo's clients move to Singapore

From this machine, which is in Frankfurt to ns1:

  dig @127.0.0.1 -p 5300 www.cdn.example
  dig @127.0.0.1 -p 5300 +subnet=198.18.81.0/24 www.cdn.example      # as a resolver asks for its clients in Japan
  curl -so /dev/null -D- -H 'Host: www.cdn.example' http://127.0.0.1:8080/

All nodes on a map: http://127.0.0.1:9000/

deploy/cdn.toml is what all nodes read: edit it, save it, and they follow. The end of the world: cargo xtask down
"#;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let near = arguments.iter().any(|argument| argument == NO_DISTANCE);
    let rest: Vec<String> = arguments.iter().filter(|argument| *argument != NO_DISTANCE).cloned().collect();
    images::run(&rest)?;
    start(!near && distance_by_environment())?;
    println!("{TRY}");
    Ok(())
}

pub(crate) fn down(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => stop(false),
        [flag] if flag == "--volumes" => stop(true),
        _ => bail!("takes --volumes (removes the caches too) or nothing"),
    }
}

/// What compose.yaml asks the environment, too.
pub(crate) fn distance_by_environment() -> bool {
    std::env::var(DISTANCE).map_or(true, |value| value != "0")
}

/// Starts every container, with or without distance between them, and waits until all are healthy.
pub(crate) fn start(distance: bool) -> Result<()> {
    docker::require()?;
    let from = Instant::now();
    let mut command = compose()?;
    command.env(DISTANCE, if distance { "1" } else { "0" });
    succeed(command.args(["up", "--detach", "--no-build", "--remove-orphans"]))?;
    loop {
        let all = containers()?;
        let ill: Vec<_> = all.iter().filter(|container| !container.is_well()).collect();
        if ill.is_empty() {
            ensure!(!all.is_empty(), "docker-compose up started nothing");
            println!("up      {} containers healthy after {:.0?}", all.len(), from.elapsed());
            return Ok(());
        }
        if from.elapsed() > READY_BOUND {
            for container in &ill {
                let logs = output(compose()?.args(["logs", "--tail", "20", &container.service]));
                println!(
                    "{}: {} {}\n{}",
                    container.service,
                    container.status,
                    container.health,
                    logs.unwrap_or_default()
                );
            }
            bail!("{} of {} containers are not healthy after {:.0?}", ill.len(), all.len(), from.elapsed());
        }
        thread::sleep(POLL);
    }
}

/// Removes containers and networks, and the caches if `volumes`.
pub(crate) fn stop(volumes: bool) -> Result<()> {
    docker::require()?;
    let mut command = compose()?;
    command.args(["down", "--remove-orphans"]);
    if volumes {
        command.arg("--volumes");
    }
    // Compose 1.29 tells each container's end to stderr.
    output(&mut command).map(drop)
}
