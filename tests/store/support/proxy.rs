//! A connection that can be cut or held up, as networks do it: between a store and its etcd.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// They pass.
    Passes,
    /// Nothing passes, and nobody is told: a dead cable.
    Stalls,
    /// What etcd says does not pass; what it is told does.
    IsIsolated,
    /// Connections are refused, and those that there were are closed.
    IsCut,
}

#[derive(Debug)]
struct Shared {
    traffic: Mutex<Traffic>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
}

/// The proxy; it ends with the process.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy in front of a port.
    pub(crate) fn before(target: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            traffic: Mutex::new(Traffic::Passes),
            changed: Condvar::new(),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *accepting.traffic.lock().unwrap() == Traffic::IsCut {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                let mut open = accepting.open.lock().unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                    open.push(stream.try_clone().unwrap());
                }
                drop(open);
                let (back, forth) = (Arc::clone(&accepting), Arc::clone(&accepting));
                let (c, s) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || copy(client, server, &forth, false));
                thread::spawn(move || copy(s, c, &back, true));
            }
        });
        Proxy { port, shared }
    }

    /// From now on.
    pub(crate) fn set(&self, traffic: Traffic) {
        *self.shared.traffic.lock().unwrap() = traffic;
        self.shared.changed.notify_all();
        if traffic == Traffic::IsCut {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared, answers: bool) {
    let mut buffer = vec![0; 16 * 1024];
    let holds = |traffic: &mut Traffic| match traffic {
        Traffic::Stalls => true,
        Traffic::IsIsolated => answers,
        Traffic::Passes | Traffic::IsCut => false,
    };
    loop {
        // Bytes stay in the kernel, and then in the sender, while they are held up.
        drop(shared.changed.wait_while(shared.traffic.lock().unwrap(), holds).unwrap());
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                drop(shared.changed.wait_while(shared.traffic.lock().unwrap(), holds).unwrap());
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
