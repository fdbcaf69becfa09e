//! `READY=1` to a service manager that waits for it (`Type=notify`).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Says that the member serves, if `NOTIFY_SOCKET` names somebody to tell; false if it does not.
pub fn notify_ready() -> io::Result<bool> {
    let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return Ok(false);
    };
    let address = match path.as_bytes() {
        // A name in the abstract namespace.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    let state = b"READY=1";
    let sent = socket.send_to_addr(state, &address)?;
    if sent == state.len() { Ok(true) } else { Err(io::ErrorKind::WriteZero.into()) }
}
