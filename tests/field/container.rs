//! Helper: runs the service's binary as a container of a pod would run: with the arguments, the environment, the user, the mounts
//! and the read-only root that the manifest says, and in a separate network, where its fixed ports are free.
//!
//! What it does not have: the seccomp profile, cgroups, and the image, whose binary is static.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use esim_status_testing::process::{on_a_leash, reap, signal};
use esim_status_testing::{binary, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;

use super::manifests::list;

/// Builds the root of the container and becomes its process. The arguments are the root, the binary and the user; then pairs of a
/// folder and its mount with `rw` or `ro` before them, until `--`; then the environment and the command.
const CONTAINER: &str = r#"set -e
root=$1 binary=$2 user=$3; shift 3
PATH=$PATH:/usr/sbin:/sbin
ip link set lo up
mount --make-rprivate /
mount -t tmpfs -o mode=755 container "$root"
cd "$root"
mkdir dev proc usr
mount --bind /dev dev
mount --bind /proc proc
mount --bind -o ro /usr usr
# The binary under test has the C library of this machine.
for lib in lib lib64; do
    if [ -L "/$lib" ]; then ln -s "$(readlink "/$lib")" "$lib"
    elif [ -d "/$lib" ]; then mkdir "$lib"; mount --bind -o ro "/$lib" "$lib"; fi
done
touch esim-status
mount --bind "$binary" esim-status
while [ "$1" != -- ]; do
    mkdir -p "$root$3"
    mount --bind "$2" "$root$3"
    mount -o "remount,bind,$1" "$root$3"
    shift 3
done
shift
mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$user" --groups "$user" --no-new-privs --bounding-set=-all --inh-caps=-all /usr/bin/env -i "$@""#;

/// The running container. It ends with the test.
pub(crate) struct Container {
    child: Child,
    folder: TempDir,
    spec: Value,
}

/// Why no container can run here.
pub(crate) fn missing() -> Option<&'static str> {
    (!cfg!(target_os = "linux") || !geteuid().is_root()).then_some("it needs root on Linux")
}

impl Container {
    /// Starts the container of this pod template. `mounts` has a folder for each volume and further mounts, each with whether it
    /// may be written; `values` the environment's values from secrets.
    pub(crate) fn start(
        template: &Value,
        mounts: &[(&Path, &str, bool)],
        values: impl Fn(&Value) -> String,
    ) -> Self {
        let spec = template["spec"].clone();
        let container = &spec["containers"][0];
        let root = &container["securityContext"];
        assert_eq!(root["readOnlyRootFilesystem"], true);
        let user = spec["securityContext"]["runAsUser"].as_u64().unwrap();
        assert_eq!(spec["securityContext"]["runAsGroup"], user);
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("root");
        std::fs::create_dir(&place).unwrap();
        let mut shell = Command::new("/bin/sh");
        on_a_leash(&mut shell).args(["unshare", "--net", "--mount", "sh", "-c", CONTAINER, "sh"]);
        shell.arg(place).arg(binary()).arg(user.to_string());
        for (folder, mount, is_written) in mounts {
            shell.arg(if *is_written { "rw" } else { "ro" }).arg(folder).arg(mount);
        }
        shell.arg("--");
        for variable in list(&container["env"]) {
            let value = variable["value"]
                .as_str()
                .map_or_else(|| values(&variable["valueFrom"]), str::to_owned);
            shell.arg(format!("{}={value}", variable["name"].as_str().unwrap()));
        }
        // The image's entry point.
        shell
            .arg("/esim-status")
            .args(list(&container["args"]).iter().map(|it| it.as_str().unwrap()));
        let log = File::create(folder.path().join("log")).unwrap();
        let child = shell.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, folder, spec }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn container(&self) -> &Value {
        &self.spec["containers"][0]
    }

    /// The number of a named port.
    pub(crate) fn port(&self, name: &str) -> u64 {
        let port = list(&self.container()["ports"]).iter().find(|it| it["name"] == name).unwrap();
        port["containerPort"].as_u64().unwrap()
    }

    /// Calls a port of the container from inside its network. Returns the status and the body; the status is 0 without an answer.
    pub(crate) fn call(&self, port: &str, path: &str, more: &[&str]) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.port(port));
        let mut curl = Command::new("nsenter");
        curl.args([
            "--net",
            "--target",
            &self.child.id().to_string(),
            "curl",
            "-s",
            "--noproxy",
            "*",
        ]);
        curl.args(["-w", "\n%{http_code}"]).args(more).arg(url);
        let said = String::from_utf8(curl.stderr(Stdio::null()).output().unwrap().stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap(), body.to_owned())
    }

    /// Asks a probe of the manifest once, as the kubelet does.
    pub(crate) fn probe(&self, name: &str) -> bool {
        let probe = &self.container()[name];
        let get = &probe["httpGet"];
        let seconds = probe["timeoutSeconds"].to_string();
        let (port, path) = (get["port"].as_str().unwrap(), get["path"].as_str().unwrap());
        (200..400).contains(&self.call(port, path, &["--max-time", &seconds]).0)
    }

    /// Waits until a probe succeeds, for at most as long as the kubelet does.
    pub(crate) async fn passes(&mut self, name: &str) {
        let probe = &self.container()[name];
        let patience = ["periodSeconds", "failureThreshold"].map(|it| probe[it].as_u64().unwrap());
        let patience = Duration::from_secs(patience.iter().product());
        let begun = Instant::now();
        wait_until(name, async || self.probe(name)).await;
        assert!(begun.elapsed() < patience, "{name} took {:?}", begun.elapsed());
    }

    /// Asserts that the process is not root, has no capability and cannot get one, and that its root is read-only even for root.
    pub(crate) fn assert_confined(&self) {
        let process = Path::new("/proc").join(self.child.id().to_string());
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let is =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let user = self.spec["securityContext"]["runAsUser"].to_string();
        assert!(is("Uid:").split_whitespace().all(|it| it == user), "{status}");
        assert_eq!(
            (is("CapEff:"), is("CapBnd:"), is("NoNewPrivs:")),
            ("0000000000000000", "0000000000000000", "1")
        );
        let written = std::fs::write(process.join("root/written"), "");
        assert_eq!(written.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }

    /// Sends SIGTERM, as the kubelet does first.
    pub(crate) fn terminate(&self) {
        signal(self.child.id().cast_signed(), Signal::SIGTERM);
    }

    /// Waits until the container has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the container ends", || {
            status = self.child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.child.kill());
        reap(&mut self.child);
        if std::thread::panicking() {
            eprintln!("the container's log:\n{}", self.log());
        }
    }
}

/// A volume as the kubelet gives it to a pod with this `fsGroup`.
pub(crate) fn volume(group: u64, mode: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    own(folder.path(), group, mode);
    folder
}

/// Gives a file or folder to root and this group.
pub(crate) fn own(path: &Path, group: u64, mode: u32) {
    std::os::unix::fs::chown(path, Some(0), Some(u32::try_from(group).unwrap())).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
