//! A real nginx or haproxy in front of the service.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::part::{Part, folder, free_port, give, installed};
use super::wait_until;

/// A proxy that keeps connections to the service alive for a minute. It ends with the test.
#[derive(Debug)]
pub struct Front {
    _process: Part,
    folder: TempDir,
    /// Where it listens.
    pub url: String,
}

impl Front {
    async fn start(program: &str, arguments: &[&str], settings: String, port: u16) -> Self {
        let folder = folder();
        let file = folder.path().join("settings");
        let here = folder.path().display().to_string();
        fs::write(&file, settings.replace("{here}", &here)).unwrap();
        give(&file);
        let arguments: Vec<_> = arguments.iter().map(|it| it.replace("{here}", &here)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let log = folder.path().join("log");
        let mut process = Part::start(&installed(program), &arguments, &log);
        wait_until(program, || {
            assert!(process.runs(), "{}", fs::read_to_string(&log).unwrap_or_default());
            async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }
        })
        .await;
        Self { _process: process, folder, url: format!("http://127.0.0.1:{port}") }
    }

    /// nginx, which serves under `prefix` what the service serves under `/`. `more` are settings for that location.
    pub async fn nginx(service: SocketAddr, prefix: &str, more: &str) -> Self {
        let port = free_port();
        let settings = format!(
            "daemon off;
             worker_processes 2;
             pid {{here}}/pid;
             events {{ worker_connections 1024; }}
             http {{
                 access_log off;
                 client_body_temp_path {{here}}/body;
                 proxy_temp_path {{here}}/proxy;
                 fastcgi_temp_path {{here}}/fastcgi;
                 uwsgi_temp_path {{here}}/uwsgi;
                 scgi_temp_path {{here}}/scgi;
                 upstream service {{ server {service}; keepalive 256; keepalive_timeout 60s; }}
                 server {{
                     listen 127.0.0.1:{port};
                     keepalive_timeout 120s;
                     location {prefix} {{
                         proxy_pass http://service/;
                         proxy_http_version 1.1;
                         proxy_set_header Connection \"\";
                         proxy_next_upstream off;
                         {more}
                     }}
                 }}
             }}"
        );
        let arguments = ["-e", "{here}/errors", "-p", "{here}", "-c", "{here}/settings"];
        Self::start("nginx", &arguments, settings, port).await
    }

    /// haproxy.
    pub async fn haproxy(service: SocketAddr) -> Self {
        let port = free_port();
        let settings = format!(
            "global
                 maxconn 2000
             defaults
                 mode http
                 retries 0
                 timeout connect 5s
                 timeout client 120s
                 timeout server 60s
                 timeout http-keep-alive 60s
                 http-reuse always
             frontend webhooks
                 bind 127.0.0.1:{port}
                 default_backend service
             backend service
                 server one {service}\n"
        );
        Self::start("haproxy", &["-db", "-f", "{here}/settings"], settings, port).await
    }

    /// nginx's error log.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }
}
