//! URLs that members listen on and are known by, with the checks Go's `net/url` and etcd's `types.NewURLs` make.

use std::fmt;

/// `http://host:port` and its kin, kept as Go would print it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// Without brackets; empty for Unix sockets.
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    UnixTls,
}

impl Url {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host name or IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::UnixTls)
    }

    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let refuse = |why: String| Err(format!("parse {text:?}: {why}"));
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return refuse("net/url: invalid control character in URL".to_string());
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            if text.starts_with(':') {
                return refuse("missing protocol scheme".to_string());
            }
            let segment = text.split('/').next().unwrap_or(text);
            if segment.contains(':') {
                return refuse("first path segment in URL cannot contain colon".to_string());
            }
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::UnixTls,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        if matches!(scheme, Scheme::Unix | Scheme::UnixTls) {
            return Ok(Url { text: text.to_string(), scheme, host: String::new(), port: 0 });
        }
        let no_port = || Err(format!("URL address does not have the form \"host:port\": {text}"));
        let Some(rest) = rest.strip_prefix("//") else { return no_port() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, address) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        if !userinfo.bytes().all(is_userinfo) {
            return refuse("net/url: invalid userinfo".to_string());
        }
        if let Some((_, port)) = address.rsplit_once(':')
            && !port.contains(']')
            && !port.bytes().all(|b| b.is_ascii_digit())
        {
            return refuse(format!("invalid port {:?} after host", format!(":{port}")));
        }
        let Some((host, port)) = split_host_port(address) else { return no_port() };
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        // An empty port means: any, as for Go's listener.
        let port = match port {
            "" => 0,
            _ => port.parse().map_err(|_| format!("address {port}: invalid port"))?,
        };
        let name = if scheme == Scheme::Http { "http" } else { "https" };
        Ok(Url { text: format!("{name}://{authority}"), scheme, host: host.to_string(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Go's `validUserinfo`.
fn is_userinfo(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let first = bytes.next()?;
    let valid =
        first.is_ascii_alphabetic() && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    valid.then_some((scheme, rest))
}

fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':')?));
    }
    let (host, port) = authority.split_once(':')?;
    (!port.contains(':')).then_some((host, port))
}

/// Comma-separated; sorted and without duplicates. The empty text gives no URL.
pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_etcd_reads() {
        let url = Url::parse(" HTTP://[::1]:2379").unwrap();
        assert_eq!((url.as_str(), url.host(), url.port()), ("http://[::1]:2379", "::1", 2379));
        assert_eq!(Url::parse("http://localhost:").unwrap().port(), 0);
        assert!(Url::parse("unix:///run/etcd.sock").unwrap().is_unix());
        let url = Url::parse("http://root:s%40crets@10.0.0.1:2379").unwrap();
        assert_eq!((url.as_str(), url.host()), ("http://root:s%40crets@10.0.0.1:2379", "10.0.0.1"));
        let list = parse_list("http://b:2,http://a:1,http://b:2").unwrap();
        assert_eq!(list.iter().map(Url::as_str).collect::<Vec<_>>(), ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn refuses_with_the_texts_of_etcd() {
        for (text, error) in [
            ("127.0.0.1:2379", "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"),
            ("ftp://127.0.0.1:2379", "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:2379"),
            ("http://127.0.0.1", "URL address does not have the form \"host:port\": http://127.0.0.1"),
            ("http://::1:2379", "URL address does not have the form \"host:port\": http://::1:2379"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:x", "parse \"http://a:x\": invalid port \":x\" after host"),
            ("localhost", "URL scheme must be http, https, unix, or unixs: localhost"),
            (":1", "parse \":1\": missing protocol scheme"),
            ("http://a b@c:1", "parse \"http://a b@c:1\": net/url: invalid userinfo"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), error);
        }
    }
}
