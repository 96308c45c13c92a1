//! A relay for `deploy/compose.yaml`, and for nothing else.

fn main() -> std::process::ExitCode {
    perigee_cli::distance::run()
}
