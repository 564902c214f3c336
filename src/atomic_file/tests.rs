use std::io::Write;

use super::*;

#[test]
fn a_file_appears_complete_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "old").unwrap();
    let mut dropped = AtomicFile::create(&path).unwrap();
    dropped.file.write_all(b"half").unwrap();
    drop(dropped);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let mut done = AtomicFile::create(&path).unwrap();
    done.file.write_all(b"new").unwrap();
    done.commit().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn only_files_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let error = AtomicFile::create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("expected an ordinary file or none"), "{error}");
    assert!(matches!(AtomicFile::create(Path::new("/")), Err(Error::InvalidArgument { .. })));
    let nowhere = dir.path().join("no/folder");
    assert!(matches!(AtomicFile::create(&nowhere), Err(Error::NotFound { .. })));
}

#[cfg(unix)]
#[test]
fn links_stay_and_lead_to_what_is_written() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |path: &Path, text: &str| {
        let mut file = AtomicFile::create(path)?;
        file.file.write_all(text.as_bytes()).unwrap();
        file.commit()
    };
    std::fs::create_dir(at("d")).unwrap();
    symlink("../target", at("d/link")).unwrap();
    symlink(at("d/link"), at("again")).unwrap();
    write(&at("again"), "new").unwrap();
    assert_eq!(std::fs::read(at("target")).unwrap(), b"new");
    std::fs::set_permissions(at("target"), PermissionsExt::from_mode(0o640)).unwrap();
    write(&at("d/link"), "newer").unwrap();
    assert_eq!(std::fs::read(at("target")).unwrap(), b"newer");
    assert_eq!(std::fs::metadata(at("target")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(at("d/link").is_symlink() && at("again").is_symlink());

    // What has no name cannot be replaced: pipes, devices, deleted files, circles.
    symlink("circle", at("circle")).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    symlink(format!("/proc/self/fd/{number}"), at("pipe")).unwrap();
    symlink("/dev/null", at("null")).unwrap();
    let deleted = File::create(at("deleted")).unwrap();
    std::fs::remove_file(at("deleted")).unwrap();
    symlink(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&deleted)), at("gone")).unwrap();
    for name in ["circle", "pipe", "null", "gone"] {
        let error = write(&at(name), "x").unwrap_err().to_string();
        assert!(error.contains("expected") && error.contains(name), "{name}: {error}");
        assert!(at(name).is_symlink(), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

/// A writer looks at its destination more than once, and another one may replace it between two looks.
#[cfg(unix)]
#[test]
fn a_place_that_others_write_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (name, link) = (dir.path().join("a"), dir.path().join("link"));
    std::os::unix::fs::symlink(&name, &link).unwrap();
    std::fs::write(&name, "").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let beside = dir.path().join("b");
                std::fs::write(&beside, "").unwrap();
                std::fs::rename(&beside, &name).unwrap();
            }
        });
        let refused: Vec<_> =
            (0..20_000).flat_map(|_| [&name, &link]).filter_map(|path| Place::find(path).err()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(refused.is_empty(), "{} of 40000: {:?}", refused.len(), refused[0]);
    });
}

#[test]
fn what_a_killed_process_left_is_removed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let killed = AtomicFile::create(&path).unwrap();
    let left = killed.temporary.clone();
    // Held by its writer, however old; then held by nobody, but new; then old.
    let old = std::time::SystemTime::now() - 2 * STALE;
    killed.file.set_modified(old).unwrap();
    let second = AtomicFile::create(&path).unwrap();
    assert!(left.exists() && second.temporary != left);
    drop(second);
    drop(killed);
    let file = File::create(&left).unwrap();
    drop(AtomicFile::create(&path).unwrap());
    assert!(left.exists());
    file.set_modified(old).unwrap();
    drop(file);
    drop(AtomicFile::create(&path).unwrap());
    assert!(!left.exists());
}

/// All at once under the name that the next temporary would have had.
#[cfg(unix)]
#[test]
fn what_is_no_file_under_a_temporary_name_is_left_and_passed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let name = AtomicFile::create(&path).unwrap().temporary.clone();
    let old = std::time::SystemTime::now() - 2 * STALE;
    let make_pipe =
        |at: &Path| assert!(std::process::Command::new("mkfifo").arg(at).status().unwrap().success());
    let (pipe, other) = (dir.path().join("pipe"), dir.path().join("other"));
    make_pipe(&pipe);
    File::create(&other).unwrap().set_modified(old).unwrap();
    let obstacles: [(&str, &dyn Fn()); 5] = [
        ("a pipe", &|| make_pipe(&name)),
        ("a link to a pipe", &|| symlink(&pipe, &name).unwrap()),
        ("a link to an old file", &|| symlink(&other, &name).unwrap()),
        ("a link to nothing", &|| symlink("nothing", &name).unwrap()),
        ("a link to itself", &|| symlink(&name, &name).unwrap()),
    ];
    for (what, make) in obstacles {
        make();
        let mut file = AtomicFile::create(&path).unwrap();
        assert!(file.temporary != name, "{what}");
        file.file.write_all(what.as_bytes()).unwrap();
        file.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), what.as_bytes());
        assert!(std::fs::symlink_metadata(&name).is_ok() && other.exists(), "{what} is not ours to remove");
        std::fs::remove_file(&name).unwrap();
    }
    let left = File::create(&name).unwrap();
    left.set_modified(old).unwrap();
    left.set_permissions(PermissionsExt::from_mode(0o444)).unwrap();
    drop(left);
    drop(AtomicFile::create(&path).unwrap());
    assert!(!name.exists(), "what was left behind read-only stays");
}

#[cfg(unix)]
#[test]
fn a_read_only_file_is_not_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "old").unwrap();
    for mode in [0o444, 0o400, 0o040, 0o060] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let error = AtomicFile::create(&path).unwrap_err().to_string();
        assert!(
            error.contains("expected a file that may be written, found a read-only one"),
            "{mode:o}: {error}"
        );
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    drop(AtomicFile::create(&path).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_check_names_the_option_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let says = |path: &Path, words: &str| {
        let error = check("--output x", path).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.starts_with("--output x: expected ") && error.contains(words), "{error}");
    };
    says(dir.path(), "an ordinary file or none");
    says(&at("no/folder"), "a file that can be written");
    says(&at("name/"), "a file name");
    says(&at("name/."), "a file name");
    says(Path::new("/"), "a file name");
    check("--output x", &at("name")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Only root may give files away: where nobody can, there is nothing to keep.
#[cfg(unix)]
#[test]
fn owner_and_group_stay() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "old").unwrap();
    let given = chown(&path, Some(1234), Some(5678)).is_ok();
    let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    let before = owner(&path);
    assert_eq!(given, before == (1234, 5678));
    let mut file = AtomicFile::create(&path).unwrap();
    file.file.write_all(b"new").unwrap();
    file.commit().unwrap();
    assert_eq!((owner(&path), std::fs::read(&path).unwrap()), (before, b"new".to_vec()));
}

#[cfg(unix)]
#[test]
fn places_are_told_apart() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("d")).unwrap();
    symlink("d", at("e")).unwrap();
    symlink("../new", at("d/link")).unwrap();
    let same = |a: &str, b: &str| {
        assert_eq!(same_place(&at(a), &at(b)), same_place(&at(b), &at(a)), "{a} {b}");
        same_place(&at(a), &at(b))
    };
    for there in [false, true] {
        assert!(same("new", "./new") && same("new", "d/../new") && same("e/x", "d/x"), "{there}");
        assert!(same("d/link", "new") && same("e/link", "new"), "{there}");
        assert!(!same("new", "d/new") && !same("new", "other") && !same("d/x", "x"), "{there}");
        std::fs::write(at("new"), "").unwrap();
    }
}

#[cfg(any(windows, target_os = "linux"))]
#[test]
fn names_differ_by_capitals_where_files_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (a, b) in [("new.png", "NEW.png"), ("é", "É")] {
        let before = same_place(&at(a), &at(b));
        std::fs::write(at(a), "").unwrap();
        assert_eq!((before, same_place(&at(a), &at(b))), (cfg!(windows), cfg!(windows)), "{a}");
        assert!(!same_place(&at(a), &at("other")));
    }
}

/// In a process of its own, which the last act of [`abandon_all`] stops for good.
#[test]
fn nothing_comes_after_what_was_abandoned() {
    const FOLDER: &str = "SOFTDIMO_TEST_ABANDONED";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let path = PathBuf::from(folder).join("a");
        AtomicFile::create(&path).unwrap().commit().unwrap();
        std::thread::spawn(move || {
            for n in 0.. {
                let file = AtomicFile::create(&path).unwrap();
                if n % 2 == 0 {
                    file.commit().unwrap();
                }
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        abandon_all();
        std::thread::sleep(Duration::from_millis(20));
        std::process::exit(0);
    }
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "atomic_file::tests::nothing_comes_after_what_was_abandoned"]);
        assert!(child.env(FOLDER, dir.path()).output().unwrap().status.success());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["a"]);
    }
}
