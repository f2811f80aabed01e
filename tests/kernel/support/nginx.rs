//! A real web server on a node.

use std::path::PathBuf;

use cvip_lab::{Nginx, unique_name};

use super::site::Site;

/// nginx on port 80 of both families of a node. Its page says `node N`, and so does every answer's
/// `Served-By`; files below [`files`] are fetched by their names.
#[track_caller]
pub(crate) fn start_nginx(site: &Site, number: u32) -> Nginx {
    let server = format!(
        "add_header Served-By 'node {number}';\n\
         server {{ listen 80; listen [::]:80; root {};\n\
         location = / {{ return 200 'node {number}\\n'; }} }}",
        files(site).display(),
    );
    Nginx::start(site.host(number), &site.dir.join(unique_name("nginx-")), &server).unwrap()
}

/// The folder with the files that every node's nginx serves.
pub(crate) fn files(site: &Site) -> PathBuf {
    site.dir.join("files")
}
