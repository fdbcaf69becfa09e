//! Users and their tokens beside upstream etcd: backups carry users both ways, a token that one of the two has signed lets
//! in at the other, and what users may holds across `kill -9`.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bench_harness::{
    oracle,
    pb::{
        authpb,
        etcdserverpb::{self as pb, auth_client::AuthClient, kv_client::KvClient},
    },
    process::{Launch, Server},
};
use tokio::runtime::Runtime;
use tonic::{Code, Request, Status, transport::Channel};

struct Etcd {
    server: Server,
    runtime: Runtime,
}

impl Etcd {
    fn start(launch: Launch) -> Self {
        let server = launch.arg("--bcrypt-cost=4").start().unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, runtime }
    }

    fn pinion(data_dir: &Path, args: &[String]) -> Self {
        Self::start(Launch::pinion(env!("CARGO_BIN_EXE_pinion"), data_dir).args(args.to_vec()))
    }

    fn upstream(data_dir: &Path, args: &[String]) -> Self {
        Self::start(Launch::etcd(program("etcd"), data_dir).args(args.to_vec()))
    }

    fn run<T>(&self, call: impl AsyncFnOnce(Channel) -> T) -> T {
        self.runtime.block_on(async {
            let endpoint = Channel::from_shared(self.server.endpoint()).expect("an endpoint");
            call(endpoint.connect().await.expect("connected")).await
        })
    }

    /// Root, and `alice`, who may read and write from `a` to `b`; authentication is on.
    fn enable(&self) {
        self.run(async |channel| {
            let mut auth = AuthClient::new(channel);
            for name in ["root", "alice"] {
                let password = format!("{name}-password");
                let user = pb::AuthUserAddRequest { name: name.into(), password, ..Default::default() };
                auth.user_add(user).await.expect("added");
            }
            let options = Some(authpb::UserAddOptions { no_password: true });
            let certified = pb::AuthUserAddRequest { name: "c".into(), options, ..Default::default() };
            auth.user_add(certified).await.expect("added");
            auth.role_add(pb::AuthRoleAddRequest { name: "r".into() }).await.expect("added");
            let perm = authpb::Permission { perm_type: 2, key: "a".into(), range_end: "b".into() };
            let granted = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
            auth.role_grant_permission(granted).await.expect("granted");
            for (user, role) in [("root", "root"), ("alice", "r")] {
                let granted = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
                auth.user_grant_role(granted).await.expect("granted");
            }
            auth.auth_enable(pb::AuthEnableRequest {}).await.expect("enabled");
        });
    }

    fn log_in(&self, name: &str) -> String {
        let request = pb::AuthenticateRequest { name: name.into(), password: format!("{name}-password") };
        self.run(async |channel| AuthClient::new(channel).authenticate(request).await)
            .expect("logged in")
            .into_inner()
            .token
    }

    fn put(&self, token: &str, key: &str) -> Result<(), Status> {
        let request = pb::PutRequest { key: key.to_owned().into(), ..Default::default() };
        self.run(async |channel| KvClient::new(channel).put(with(token, request)).await).map(drop)
    }

    /// All that root sees of users and roles.
    fn shown(&self, root: &str) -> Vec<String> {
        self.run(async |channel| {
            let mut auth = AuthClient::new(channel);
            let users = auth.user_list(with(root, pb::AuthUserListRequest {})).await.expect("users");
            let roles = auth.role_list(with(root, pb::AuthRoleListRequest {})).await.expect("roles");
            let status = auth.auth_status(with(root, pb::AuthStatusRequest {})).await.expect("status");
            let status = status.into_inner();
            let mut shown = vec![format!("enabled {} at {}", status.enabled, status.auth_revision)];
            for name in users.into_inner().users {
                let user = pb::AuthUserGetRequest { name: name.clone() };
                let roles = auth.user_get(with(root, user)).await.expect("a user").into_inner().roles;
                shown.push(format!("user {name} {roles:?}"));
            }
            for role in roles.into_inner().roles {
                let get = pb::AuthRoleGetRequest { role: role.clone() };
                let granted = auth.role_get(with(root, get)).await.expect("a role").into_inner().perm;
                shown.push(format!("role {role} {granted:?}"));
            }
            shown
        })
    }

    /// What users may is as [`Etcd::enable`] has it.
    fn is_guarded(&self) {
        let alice = self.log_in("alice");
        self.put(&alice, "a1").expect("granted");
        let refused = |result: Result<(), Status>| {
            let status = result.expect_err("refused");
            (status.code(), status.message().to_owned())
        };
        let denied = (Code::PermissionDenied, "etcdserver: permission denied".to_owned());
        assert_eq!(refused(self.put(&alice, "b")), denied);
        let nobody = (Code::InvalidArgument, "etcdserver: user name is empty".to_owned());
        assert_eq!(refused(self.put("", "a1")), nobody);
        self.put(&self.log_in("root"), "b").expect("root may everything");
    }

    fn save(&self, to: &Path) {
        let saved = Command::new(program("etcdctl"))
            .args([format!("--endpoints={}", self.server.endpoint()), "--user=root:root-password".into()])
            .args(["snapshot", "save"])
            .arg(to)
            .output()
            .expect("run etcdctl");
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    }
}

fn program(name: &str) -> std::path::PathBuf {
    oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"))
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("token", token.parse().expect("a token is text"));
    }
    request
}

/// Beside the build, so on a real disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory")
}

fn restore(program: &Path, file: &Path, to: &Path) {
    let restored = Command::new(program)
        .arg0("etcdutl")
        .args(["snapshot", "restore"])
        .arg(file)
        .arg(format!("--data-dir={}", to.display()))
        .output()
        .expect("run etcdutl");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

#[test]
fn backups_carry_users_and_roles_both_ways() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let pinion = Path::new(env!("CARGO_BIN_EXE_pinion"));
    let ours = Etcd::pinion(&at("ours"), &[]);
    ours.enable();
    let shown = ours.shown(&ours.log_in("root"));
    ours.save(&at("ours.db"));
    restore(&program("etcdutl"), &at("ours.db"), &at("theirs"));
    let theirs = Etcd::upstream(&at("theirs"), &[]);
    assert_eq!(theirs.shown(&theirs.log_in("root")), shown);
    theirs.is_guarded();
    theirs.save(&at("theirs.db"));
    restore(pinion, &at("theirs.db"), &at("home"));
    let home = Etcd::pinion(&at("home"), &[]);
    assert_eq!(home.shown(&home.log_in("root")), shown);
    home.is_guarded();
}

/// Whether some file below has these bytes.
fn is_written(directory: &Path, secret: &str) -> bool {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).any(|path| match path.is_dir() {
        true => is_written(&path, secret),
        false => {
            let bytes = fs::read(&path).expect("a file");
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        }
    })
}

#[test]
fn users_hold_across_a_crash_and_tokens_as_long_as_the_log_tells_of_them() {
    let directory = directory();
    let mut pinion = Etcd::pinion(&directory.path().join("data"), &[]);
    pinion.enable();
    pinion.is_guarded();
    let shown = pinion.shown(&pinion.log_in("root"));
    let mut tokens = Vec::new();
    for puts in [0, 50] {
        let root = pinion.log_in("root");
        // Behind a checkpoint, too, which knows of no tokens.
        (0..puts).for_each(|key| pinion.put(&root, &format!("k{key}")).expect("root may"));
        pinion.server.kill().unwrap_or_else(|error| panic!("{error}"));
        let again = pinion.server.start_again_with(|launch| launch.arg("--snapshot-count=20"));
        again.unwrap_or_else(|error| panic!("{error}"));
        match pinion.put(&root, "k") {
            Ok(()) => {}
            Err(status) if puts > 0 => assert_eq!(
                (status.code(), status.message()),
                (Code::Unauthenticated, "etcdserver: invalid auth token")
            ),
            Err(status) => panic!("there was no checkpoint: {status}"),
        }
        tokens.push(root);
        assert_eq!(pinion.shown(&pinion.log_in("root")), shown);
        pinion.is_guarded();
    }
    let log = fs::read_to_string(pinion.server.log_path()).expect("a log");
    for secret in ["root-password", "alice-password", "$2a$"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    for token in &tokens {
        assert!(!log.contains(token), "{log}");
        assert!(!is_written(pinion.server.data_dir(), token), "a token is on the disk");
    }
    assert!(is_written(pinion.server.data_dir(), "k49"), "what is written is found");
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("base64"));
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Private and public key for a method.
fn keys(method: &str) -> (String, Option<String>) {
    let pair = |private: &[u8], public: &[u8]| (pem("PRIVATE KEY", private), Some(pem("PUBLIC KEY", public)));
    let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
        let key = EcdsaKeyPair::generate(algorithm).expect("a key");
        let private = key.to_pkcs8v1().expect("encoded");
        let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key());
        pair(private.as_ref(), public.expect("encoded").as_ref())
    };
    match &method[..2] {
        "HS" => ("a secret that both of them know".to_owned(), None),
        "Ed" => {
            let key = Ed25519KeyPair::generate().expect("a key");
            let private = key.to_pkcs8v1().expect("encoded");
            let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key());
            pair(private.as_ref(), public.expect("encoded").as_ref())
        }
        "ES" => ec(match method {
            "ES256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            "ES384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }),
        _ => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
            let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&key).expect("encoded");
            let private: Pkcs8V1Der<'_> = private;
            let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key());
            pair(private.as_ref(), public.expect("encoded").as_ref())
        }
    }
}

#[test]
fn a_token_that_one_has_signed_is_good_at_the_other() {
    let directory = directory();
    for method in ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256"] {
        let at = |name: &str| directory.path().join(format!("{method}-{name}"));
        let (private, public) = keys(method);
        fs::write(at("private"), private).expect("a file");
        let (private_key, mut flag) =
            (at("private"), format!("--auth-token=jwt,sign-method={method},ttl=5m"));
        if let Some(public) = public {
            fs::write(at("public"), public).expect("a file");
            flag += &format!(",pub-key={}", at("public").display());
        }
        let verify_only = flag.clone();
        flag += &format!(",priv-key={}", private_key.display());
        let (ours, theirs) =
            (Etcd::pinion(&at("ours"), &[flag.clone()]), Etcd::upstream(&at("theirs"), &[flag.clone()]));
        for etcd in [&ours, &theirs] {
            etcd.enable();
        }
        let (our_token, their_token) = (ours.log_in("alice"), theirs.log_in("alice"));
        for (etcd, name) in [(&ours, "ours"), (&theirs, "theirs")] {
            for token in [&our_token, &their_token] {
                etcd.put(token, "a1").unwrap_or_else(|error| panic!("{method}, {name}: {error}"));
                assert!(etcd.put(token, "b").is_err(), "{method}, {name}");
                let changed = format!("{}{}", &token[..token.len() - 6], "AAAAAA");
                assert_eq!(etcd.put(&changed, "a1").expect_err("refused").code(), Code::Unauthenticated);
            }
        }
        if method == "EdDSA" {
            // Who has the public key only lets in, and signs nothing.
            drop(ours);
            let ours = Etcd::pinion(&at("ours"), &[verify_only]);
            ours.put(&their_token, "a1").expect("good");
            let request = pb::AuthenticateRequest { name: "alice".into(), password: "alice-password".into() };
            let refused = ours.run(async |channel| AuthClient::new(channel).authenticate(request).await);
            let refused = refused.expect_err("nothing to sign with");
            let text = "auth: token signing attempted with verify-only key";
            assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
        }
    }
}
