//! A real web server on a node.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use cvip_lab::{Process, wait_until};

use super::{PATIENCE, Site, shown};

/// nginx on port 80 of both families of a node, in a process group of its own. Its page says
/// `node N`, and so does every answer's `Served-By`.
pub(crate) struct Nginx {
    process: Process,
    number: u32,
    conf: PathBuf,
}

impl Nginx {
    /// Starts it; files below [`Nginx::files`] are fetched by their names.
    #[track_caller]
    pub(crate) fn start(site: &Site, number: u32) -> Nginx {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let dir = site.dir.join(format!("nginx-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&dir).unwrap();
        let conf = dir.join("nginx.conf");
        let text = format!(
            "daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
             fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             add_header Served-By 'node {number}';\n\
             server {{ listen 80; listen [::]:80; root {files};\n\
             location = / {{ return 200 'node {number}\\n'; }} }} }}\n",
            dir = dir.display(),
            files = Nginx::files(site).display(),
        );
        fs::write(&conf, text).unwrap();
        let command = nginx(site, number, &conf);
        Nginx { process: Process::spawn_group(command).unwrap(), number, conf }
    }

    /// The folder with the files that every node's nginx serves.
    pub(crate) fn files(site: &Site) -> PathBuf {
        site.dir.join("files")
    }

    /// `nginx -s SIGNAL`, as an administrator types it on the node: `reload` or `quit`.
    #[track_caller]
    pub(crate) fn tell(&self, site: &Site, signal: &str) {
        let output = nginx(site, self.number, &self.conf).args(["-s", signal]).output().unwrap();
        assert!(output.status.success(), "nginx -s {signal}: {}", shown(&output).1);
    }

    /// Waits until a worker does nothing but finish its connections.
    #[track_caller]
    pub(crate) fn await_finishing_worker(&self) {
        let pid = self.process.pid();
        let finishing = || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            let finishes = |child: &str| {
                let title = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&title).contains("shutting down")
            };
            children.split_whitespace().any(finishes).then_some(())
        };
        assert!(wait_until(PATIENCE, finishing).is_some(), "no worker of nginx is to end");
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn await_end(mut self) {
        self.process.wait(PATIENCE).unwrap();
    }
}

fn nginx(site: &Site, number: u32, conf: &std::path::Path) -> Command {
    let mut command = site.host(number).command("nginx");
    command.arg("-c").arg(conf).arg("-e").arg(conf.with_file_name("error.log"));
    command
}
