//! The two ways in: a loopback TCP port and a Unix socket.

use super::routes::Peer;
use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt, net::UnixListener as StdUnixListener,
            net::UnixStream as StdUnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Semaphore, watch},
};
use tower_service::Service;

/// Connections at once, each way in.
const MAX_CONNECTIONS: usize = 512;
/// A client must have sent its request's head by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the server can't listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Not loopback.
    #[error(
        "the console can't listen on {0}: without TLS only loopback addresses are allowed (127.0.0.1, [::1]); \
         to reach it from elsewhere use `ssh -L {port}:127.0.0.1:{port} HOST`", port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// Taken, or not ours.
    #[error(
        "can't listen on {address}: {error}; is another daemon running? `--listen` takes another port"
    )]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The socket is in use.
    #[error("another daemon answers on {0}: stop it first, or give `--socket` another path")]
    InUse(PathBuf),
    /// The socket can't be made.
    #[error("control socket {path}: {error}")]
    Unix {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Binds the console's port.
///
/// # Errors
/// The address isn't loopback, or can't be had.
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|error| ListenError::Tcp { address, error })
}

/// The control socket's file; removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    group: Option<(String, u32)>,
}

impl ControlSocket {
    /// Makes the socket: mode 0660, owned by root and `group` where that exists. It appears under its
    /// name only when it is complete, and replaces one that nobody answers on.
    ///
    /// # Errors
    /// Another daemon answers there, or it can't be made.
    pub fn bind(path: &Path, group: &str) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Unix { path: path.to_owned(), error };
        if StdUnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse(path.to_owned()));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let raw = path.with_file_name(name);
        let _ = fs::remove_file(&raw);
        let listener = StdUnixListener::bind(&raw).map_err(failed)?;
        let gid = group_id(group);
        if gid.is_none() {
            log::info!("there is no group `{group}`: the control socket is for root only");
        }
        let ready = fs::set_permissions(
            &raw,
            fs::Permissions::from_mode(if gid.is_some() { 0o660 } else { 0o600 }),
        )
        .and_then(|()| gid.map_or(Ok(()), |gid| std::os::unix::fs::chown(&raw, None, Some(gid))))
        .and_then(|()| fs::rename(&raw, path))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| UnixListener::from_std(listener));
        match ready {
            Ok(listener) => Ok(Self {
                listener: Some(listener),
                path: path.to_owned(),
                group: gid.map(|gid| (group.to_owned(), gid)),
            }),
            Err(error) => {
                let _ = fs::remove_file(&raw);
                Err(failed(error))
            }
        }
    }

    /// Serves until `stop` turns true.
    pub async fn serve(mut self, router: Router, stop: watch::Receiver<bool>) {
        let Some(listener) = self.listener.take() else { return };
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stopped = stop.clone();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopping(&mut stopped) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let peer = self.peer(&stream);
                    let (router, stop) = (router.clone(), stop.clone());
                    tokio::spawn(async move {
                        converse(stream, peer, router, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    fn peer(&self, stream: &UnixStream) -> Peer {
        let group_name = self.group.as_ref().map_or("sluice", |(name, _)| name);
        let Ok(credentials) = stream.peer_cred() else {
            return Peer::Stranger { uid: u32::MAX, group: group_name.to_owned() };
        };
        let uid = credentials.uid();
        let known = uid == 0
            || self.group.as_ref().is_some_and(|(_, gid)| {
                credentials.gid() == *gid || peer_groups(stream).contains(gid)
            });
        if known {
            Peer::Unix { uid, pid: credentials.pid() }
        } else {
            Peer::Stranger { uid, group: group_name.to_owned() }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves the console's port until `stop` turns true.
pub async fn serve_tcp(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stopped = stop.clone();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let _ = stream.set_nodelay(true);
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    converse(stream, Peer::Tcp(address), router, stop).await;
                    drop(slot);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// One connection. A WebSocket leaves it behind at its upgrade.
async fn converse<S>(stream: S, peer: Peer, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("connection: {error}");
    }
}

/// Returns when `stop` turns true.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can stop us any more: then nobody needs us either.
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}

/// Out of descriptors, most likely: another try at once would spin.
async fn pause(error: &io::Error) {
    log::warn!("can't accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Supplementary groups of the peer, as they were when it connected (SO_PEERGROUPS).
fn peer_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0u32; 1024];
    let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
    // SAFETY: the buffer is as long as `length` says, and the kernel writes whole u32s into it.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    groups.truncate(if result == 0 { length as usize / size_of::<u32>() } else { 0 });
    groups
}
