//! nginx on a host: a web server that others wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::wait::until;

/// An nginx that runs; it and its workers are killed (SIGKILL) when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    conf: PathBuf,
}

impl Nginx {
    /// Starts nginx on a host. Its files go to a folder of its own; `servers` are `server` blocks and whatever else
    /// stands in an `http` block (nginx.conf(5)).
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start(on: &Namespace, dir: &Path, servers: &str) -> Result<Nginx> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let conf = dir.join("nginx.conf");
        let text = format!(
            "daemon off; user root; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
             fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             {servers} }}\n",
            dir = dir.display()
        );
        fs::write(&conf, text)?;
        let process = Process::spawn_group(command(on, &conf))?;
        Ok(Nginx { process, conf })
    }

    /// Starts nginx on port 80 of both families, with one line on its page.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn with_page(on: &Namespace, dir: &Path, page: &str) -> Result<Nginx> {
        let server = "server { listen 80; listen [::]:80; location / ";
        Nginx::start(on, dir, &format!("{server}{{ return 200 '{page}\\n'; }} }}"))
    }

    /// `nginx -s SIGNAL`, as an administrator types it on the host: `reload` or `quit`.
    ///
    /// # Errors
    /// If it fails.
    pub fn tell(&self, on: &Namespace, signal: &str) -> Result<()> {
        let output = command(on, &self.conf).args(["-s", signal]).output()?;
        ensure!(output.status.success(), "nginx -s {signal}: {}", process::text(&output.stderr));
        Ok(())
    }

    /// Waits until a worker does nothing but finish its connections.
    ///
    /// # Panics
    /// If none does.
    #[track_caller]
    pub fn await_finishing_worker(&self) {
        let pid = self.process.pid();
        until("a worker of nginx is to end", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let finishes = |child: &str| {
                let title = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                process::text(&title).contains("shutting down")
            };
            children.is_ok_and(|pids| pids.split_whitespace().any(finishes))
        });
    }

    /// The process, which leads a group with its workers.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn command(on: &Namespace, conf: &Path) -> Command {
    let mut command = on.command("nginx");
    command.arg("-c").arg(conf).arg("-e").arg(conf.with_file_name("error.log"));
    command.stdin(Stdio::null());
    command
}
