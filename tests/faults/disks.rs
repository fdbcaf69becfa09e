//! Disks for members: file systems in files behind loop devices, which can stand still and be full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Enough for the two segments of a log and some checkpoints.
const DISK_BYTES: u64 = 320 << 20;

/// Gone when dropped.
pub struct Disks {
    mounts: Vec<PathBuf>,
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{program} {words:?}: {told}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

impl Disks {
    pub fn new(count: usize, directory: &Path) -> Self {
        let mut disks = Self { mounts: Vec::new() };
        for n in 0..count {
            let (image, mount) = (directory.join(format!("disk{n}")), directory.join(format!("mount{n}")));
            let file = std::fs::File::create(&image).expect("make a file");
            file.set_len(DISK_BYTES).expect("make a file of a size");
            std::fs::create_dir(&mount).expect("make a directory");
            let made = run("mkfs.ext4", &["-q", "-F", text(&image)]);
            made.and_then(|()| run("mount", &["-o", "loop", text(&image), text(&mount)]))
                .unwrap_or_else(|error| panic!("{error} (disks for members are made by root)"));
            disks.mounts.push(mount);
        }
        disks
    }

    pub fn of(&self, n: usize) -> &Path {
        &self.mounts[n]
    }

    /// Nothing that is written to it ends until this is dropped.
    pub fn freeze(&self, n: usize) -> Frozen {
        let mount = self.mounts[n].clone();
        run("fsfreeze", &["--freeze", text(&mount)]).unwrap_or_else(|error| panic!("{error}"));
        Frozen { mount }
    }

    /// It has no room left until this is dropped.
    pub fn fill(&self, n: usize) -> Full {
        let file = self.mounts[n].join("full");
        // Down to the last block, however little each try may take.
        for size in ["64M", "16M", "4M", "1M", "64K", "4K"] {
            let mut number = 0;
            while run("fallocate", &["-l", size, &format!("{}-{size}-{number}", text(&file))]).is_ok() {
                number += 1;
            }
        }
        Full { mount: self.mounts[n].clone() }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for mount in &self.mounts {
            complain(run("umount", &["--lazy", text(mount)]));
        }
    }
}

#[must_use]
pub struct Frozen {
    mount: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        complain(run("fsfreeze", &["--unfreeze", text(&self.mount)]));
    }
}

#[must_use]
pub struct Full {
    mount: PathBuf,
}

impl Drop for Full {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.mount).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("full-") {
                complain(std::fs::remove_file(entry.path()).map_err(|error| error.to_string()));
            }
        }
    }
}

/// A panic while another one unwinds would hide that.
fn complain(outcome: Result<(), String>) {
    if let Err(error) = outcome {
        eprintln!("{error}");
    }
}
