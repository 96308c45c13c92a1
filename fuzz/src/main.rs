//! The engine's program: `cargo xtask fuzz` builds it with coverage and runs it. `PERIGEE_FUZZ_TARGET` names the target;
//! `PERIGEE_FUZZ_UNPACK` or `PERIGEE_FUZZ_PACK` with a folder turn the kept corpus into files, or files into it, instead.

#![no_main]
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, fs, io, path::Path, process, sync::OnceLock};

use perigee_fuzz::{Target, corpus};

static TARGET: OnceLock<Target> = OnceLock::new();

fn begin() {
    let name = env::var("PERIGEE_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = perigee_fuzz::target(&name) else {
        let known: Vec<&str> = perigee_fuzz::TARGETS.iter().map(|target| target.name).collect();
        println!("PERIGEE_FUZZ_TARGET is {name:?}; there are {}", known.join(", "));
        process::exit(1);
    };
    let target = TARGET.get_or_init(|| target);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.hex"));
    let done = match (env::var_os("PERIGEE_FUZZ_UNPACK"), env::var_os("PERIGEE_FUZZ_PACK")) {
        (None, None) => return,
        (Some(folder), _) => unpack(target, &file, Path::new(&folder)),
        (None, Some(folder)) => pack(&file, Path::new(&folder)),
    };
    match done {
        Ok(said) => println!("{name}: {said}"),
        Err(error) => println!("{name}: {error}"),
    }
    process::exit(0);
}

/// The kept inputs and the seeds as files of a folder, as the engine wants them.
fn unpack(target: &Target, file: &Path, folder: &Path) -> io::Result<String> {
    let kept = corpus::unpack(&fs::read_to_string(file)?)
        .map_err(|line| io::Error::other(format!("{}:{line} is not hexadecimal", file.display())))?;
    let inputs: Vec<Vec<u8>> = kept.into_iter().chain((target.seeds)()).collect();
    fs::create_dir_all(folder)?;
    for (index, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("begin-{index:04}")), input)?;
    }
    Ok(format!("{} inputs to begin with", inputs.len()))
}

/// The other way.
fn pack(file: &Path, folder: &Path) -> io::Result<String> {
    let inputs: Vec<Vec<u8>> = fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect::<io::Result<_>>()?;
    let text = corpus::pack(inputs);
    fs::write(file, &text)?;
    Ok(format!("{} inputs kept, {} bytes", text.lines().count(), text.len()))
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.check)(data);
    }
});
