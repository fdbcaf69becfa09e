use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn hmac(method: &str) -> Rc<Jwt> {
    let private_key = Some(b"a secret of some length".to_vec());
    let options =
        JwtOptions { method: method.into(), private_key, ttl: Duration::from_secs(300), public_key: None };
    Jwt::new(options).expect("a secret")
}

fn token(jwt: &Jwt, claims: &str) -> String {
    let header = format!(r#"{{"alg":"{}"}}"#, jwt.keys.method());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jwt.keys.sign(signed.as_bytes()).expect("a private key");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_token_is_good_until_its_time() {
    for method in ["HS256", "HS384", "HS512"] {
        let jwt = hmac(method);
        let token = jwt.signing("alice", 7, NOW)().expect("signed");
        let alice = Some(Principal { user: "alice".into(), auth_revision: 7 });
        for _ in 0..2 {
            assert_eq!(jwt.who(&token, NOW), alice);
            assert_eq!(jwt.who(&token, NOW + Duration::from_secs(299)), alice);
            assert_eq!(jwt.who(&token, NOW + Duration::from_secs(300)), None);
        }
        for other in [&token[1..], &token[..token.len() - 2], &format!("{token}.x"), "", "..", "a.b.c"] {
            assert_eq!(jwt.who(other, NOW), None, "{other}");
        }
        assert_eq!(hmac(if method == "HS256" { "HS384" } else { "HS256" }).who(&token, NOW), None);
    }
}

#[test]
fn claims_count_as_in_etcd() {
    let jwt = hmac("HS256");
    for (claims, good) in [
        (r#"{"username":"u","revision":3}"#, true),
        (r#"{"username":"u","revision":3.0,"other":[1]}"#, true),
        (r#"{"username":"u"}"#, false),
        (r#"{"revision":3}"#, false),
        (r#"{"username":1,"revision":3}"#, false),
        (r#"{"username":"u","revision":"3"}"#, false),
        (r#"{"username":"u","revision":3,"exp":1}"#, false),
        (r#"{"username":"u","revision":3,"exp":"soon"}"#, false),
        (r#"{"username":"u","revision":3,"exp":1900000000}"#, true),
        (r#"{"username":"u","revision":3,"nbf":1900000000}"#, false),
        ("[]", false),
        ("", false),
        ("null", false),
    ] {
        let who = jwt.who(&token(&jwt, claims), NOW);
        let expected = good.then(|| Principal { user: "u".into(), auth_revision: 3 });
        assert_eq!(who, expected, "{claims}");
    }
}

#[test]
fn what_was_found_good_is_bounded() {
    let jwt = hmac("HS256");
    let signed = |revision| jwt.signing("u", revision, NOW)().expect("signed");
    let others = limits::JWT_KEPT_MAX as u64;
    for revision in 0..=others {
        // One that is shown all the time stays, whoever comes.
        assert!(jwt.who(&signed(0), NOW).is_some());
        assert!(jwt.who(&signed(revision), NOW).is_some());
    }
    let kept = jwt.kept.borrow();
    assert_eq!(kept.len(), limits::JWT_KEPT_MAX);
    let is_kept = |revision| kept.find(signed(revision).as_bytes()).is_some();
    assert_eq!([0, 1, 2, others].map(is_kept), [true, false, true, true]);
}

#[test]
fn a_signature_is_looked_at_once_and_not_for_a_token_whose_time_is_over() {
    let jwt = hmac("HS256");
    let token = jwt.signing("u", 3, NOW)().expect("signed");
    let (now, late) = (NOW, NOW + Duration::from_secs(300));
    let who = |at| {
        let mut looks = 0;
        let who = jwt.verified_who(&token, at, |signed, signature| {
            looks += 1;
            jwt.keys.verify(signed, signature)
        });
        (who.is_some(), looks)
    };
    // Before it is kept, and when it is.
    assert_eq!(
        [late, now, now, late, late, now].map(who),
        [(false, 0), (true, 1), (true, 0), (false, 0), (false, 0), (true, 0)]
    );
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let new = |method: &str, public: Option<&str>, private: Option<&str>| {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let options = JwtOptions {
            method: method.into(),
            public_key: bytes(public),
            private_key: bytes(private),
            ttl: NOW,
        };
        Jwt::new(options).map(drop).expect_err("refused").to_string()
    };
    assert!(new("", None, None).contains("sign-method="));
    assert!(new("none", None, None).starts_with("auth: invalid auth signature method"));
    assert!(new("HS256", Some("a"), None).starts_with("auth: missing key data"));
    assert!(new("RS256", None, Some("")).starts_with("auth: missing key data"));
    for method in ["RS256", "PS384", "ES512", "EdDSA"] {
        let text = new(method, None, Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
        assert!(text.contains("priv-key") && text.contains(method), "{text}");
        assert!(new(method, Some("nothing"), None).contains("pub-key"));
    }
}
