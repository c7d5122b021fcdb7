//! The server's name in a ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3).

use thiserror::Error;
use tls_parser::{
    Err as ParseError, SNIType, TlsExtension, TlsExtensionType, TlsMessage, TlsMessageHandshake,
    parse_tls_client_hello_extensions, parse_tls_plaintext,
};

/// Extension encrypted_client_hello (RFC 9849): what is asked for in clear may be but a front.
const ENCRYPTED_HELLO: TlsExtensionType = TlsExtensionType(0xfe0d);
/// Most letters of a name of DNS.
const LETTERS: usize = 253;

/// Why a ClientHello tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// Only its beginning was seen.
    #[error("only the beginning of a ClientHello")]
    Incomplete,
    /// It isn't one.
    #[error("no ClientHello")]
    Malformed,
    /// The name has what no name of a host has.
    #[error("a server's name that is none")]
    Name,
}

/// The name of a server that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// In small letters.
    pub name: String,
    /// The hello has another one inside that can't be read (or pretends to).
    pub outer: bool,
}

/// Reads the name; `None`: the client doesn't say it.
///
/// # Errors
/// It can't be read.
pub fn server_name(records: &[u8]) -> Result<Option<ServerName>, HelloError> {
    let (_, record) = parse_tls_plaintext(records).map_err(|error| match error {
        ParseError::Incomplete(_) => HelloError::Incomplete,
        _ => HelloError::Malformed,
    })?;
    let Some(TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))) = record.msg.first()
    else {
        return Err(HelloError::Malformed);
    };
    let Some(extensions) = hello.ext else { return Ok(None) };
    let (_, extensions) =
        parse_tls_client_hello_extensions(extensions).map_err(|_| HelloError::Malformed)?;
    let mut name = None;
    let mut outer = false;
    for extension in extensions {
        match extension {
            TlsExtension::SNI(names) => {
                let host = names.into_iter().find(|(kind, _)| *kind == SNIType::HostName);
                if let Some((_, bytes)) = host {
                    name = Some(host_name(bytes)?);
                }
            }
            TlsExtension::Unknown(ENCRYPTED_HELLO, _)
            | TlsExtension::EncryptedServerName { .. } => outer = true,
            _ => {}
        }
    }
    Ok(name.map(|name| ServerName { name, outer }))
}

fn host_name(bytes: &[u8]) -> Result<String, HelloError> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if bytes.is_empty() || bytes.len() > LETTERS || !bytes.iter().all(fits) {
        return Err(HelloError::Name);
    }
    Ok(bytes.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}
