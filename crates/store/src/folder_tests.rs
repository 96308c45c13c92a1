use tempfile::TempDir;

use super::*;

fn config(dir: &Path, bytes: u64) -> DiskConfig {
    DiskConfig { dir: dir.to_owned(), bytes }
}

fn open(dir: &Path) -> Result<Folder, StoreError> {
    Folder::open(&config(dir, 1 << 30), 5)
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The error names the folder and says what to do.
fn check_refused(dir: &Path, wanted: &str, remedy: &str) {
    let text = open(dir).map(|_| ()).expect_err("refused").to_string();
    assert!(text.contains(&dir.display().to_string()), "{text}");
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains(remedy), "{text}");
}

#[test]
fn every_opening_has_its_own_number() {
    let temp = temp();
    let dir = temp.path().join("made/on/the/way");
    for epoch in 1..4 {
        assert_eq!(open(&dir).expect("opens").epoch, epoch);
    }
}

#[test]
fn two_owners_are_refused() {
    let temp = temp();
    let first = open(temp.path()).expect("opens");
    check_refused(temp.path(), "in use by another process", "a folder of its own");
    drop(first);
    assert_eq!(open(temp.path()).expect("free again").epoch, 2);
}

#[test]
fn a_file_in_its_place_is_refused() {
    let temp = temp();
    let path = temp.path().join("file");
    fs::write(&path, "x").expect("writes");
    check_refused(&path, "cannot be written", "choose another");
    check_refused(&path.join("below"), "cannot be written", "choose another");
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let temp = temp();
    fs::write(temp.path().join("thesis.txt"), "x").expect("writes");
    check_refused(temp.path(), "thesis.txt", "choose an empty folder");
    assert_eq!(fs::read_dir(temp.path()).expect("reads").count(), 1);
}

#[test]
fn what_a_cut_off_opening_leaves_is_no_obstacle() {
    let temp = temp();
    for name in [LOCK, FORMAT_NEW] {
        fs::write(temp.path().join(name), "").expect("writes");
    }
    fs::create_dir(temp.path().join(LOST_AND_FOUND)).expect("makes");
    assert_eq!(open(temp.path()).expect("opens").epoch, 1);
}

#[test]
fn other_formats_are_refused() {
    let check = |text: &str, wanted: &str| {
        let temp = temp();
        fs::write(temp.path().join(FORMAT), text).expect("writes");
        check_refused(temp.path(), wanted, "choose");
        assert_eq!(fs::read_to_string(temp.path().join(FORMAT)).expect("reads"), text);
    };
    check("perigee-store 3\nepoch 1\nbytes 1\nseed 1\n", "perigee-store 3");
    check("", "format ");
    check("perigee-store 2\n", "without epoch");
    check("perigee-store 2\nepoch 1\nbytes many\nseed 1\n", "without bytes");
    check("perigee-store 1\n", "without epoch");
}

#[test]
fn what_an_earlier_release_wrote_is_emptied() {
    let temp = temp();
    let dir = temp.path();
    drop(open(dir).expect("opens"));
    let text = fs::read_to_string(dir.join(FORMAT)).expect("reads");
    fs::write(dir.join(FORMAT), text.replace(VERSION, EARLIER[0])).expect("writes");
    let file = dir.join("foyer-storage-direct-fs-00000000");
    fs::write(&file, "entries").expect("writes");
    assert_eq!(open(dir).expect("opens").epoch, 2, "fills keep their names apart all the same");
    assert!(!file.exists());
    assert!(fs::read_to_string(dir.join(FORMAT)).expect("reads").starts_with(VERSION));
}

#[test]
fn another_size_or_seed_starts_empty() {
    let check = |bytes: u64, seed: u64, kept: bool| {
        let temp = temp();
        let dir = temp.path();
        drop(Folder::open(&config(dir, 1 << 30), 5).expect("opens"));
        let file = dir.join("foyer-storage-direct-fs-00000000");
        fs::write(&file, "entries").expect("writes");
        let again = Folder::open(&config(dir, bytes), seed).expect("opens");
        assert_eq!(file.exists(), kept);
        assert_eq!(again.epoch, 2, "fills keep their names apart all the same");
    };
    check(1 << 30, 5, true);
    check(2 << 30, 5, false);
    check(1 << 30, 6, false);
}

#[cfg(target_os = "linux")]
#[test]
fn more_than_there_is_is_refused_before_anything_is_taken() {
    let temp = temp();
    let check = |bytes: u64| Folder::open(&config(temp.path(), bytes), 5).map(|folder| folder.epoch);
    let text = check(1 << 60).expect_err("an exbibyte").to_string();
    assert!(text.contains("cannot take 1152921504606846976 bytes") && text.contains("a smaller disk cache"), "{text}");
    assert_eq!(check(1 << 20).expect("a mebibyte"), 1, "the refused opening left nothing behind");
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_there_already_needs_no_room() {
    const MIB: u64 = 1 << 20;
    let check = |taken: u64, free: u64, expected: bool| assert_eq!(lacks(96 * MIB, taken, free), expected, "{taken}");
    check(0, 96 * MIB, false);
    check(0, 96 * MIB - 1, true);
    // A restart on a disk that others have filled: all whole blocks are there.
    check(92 * MIB + 1, 0, false);
    check(92 * MIB, 0, true);
    check(92 * MIB, 4 * MIB, false);
}

#[cfg(target_os = "linux")]
#[test]
fn space_is_taken_before_it_is_needed() {
    use std::os::unix::fs::MetadataExt;
    let temp = temp();
    let folder = open(temp.path()).expect("opens");
    let path = temp.path().join("foyer-storage-direct-fs-00000001");
    File::create(&path).expect("makes").set_len(1 << 20).expect("sparse");
    folder.allocate(1 << 20).expect("allocates");
    let blocks = fs::metadata(&path).expect("there").blocks();
    // A file system without fallocate leaves the file sparse, which is allowed.
    assert!(blocks == 0 || blocks * 512 >= 1 << 20, "{blocks}");
}
