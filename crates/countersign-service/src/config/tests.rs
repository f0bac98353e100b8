//! Each setting, in the file and in the environment, and what is refused.

use std::collections::BTreeSet;

use super::*;

const NONE: [(&str, &str); 0] = [];

#[test]
fn nothing_at_all_is_a_configuration_for_one_machine() {
    let config = Config::read("", NONE).unwrap();
    assert_eq!((&*config.issuer, config.directory.to_str()), ("http://127.0.0.1:8080", Some("countersign-data")));
    assert_eq!((config.ring.slots.len(), &*config.ring.slots[0].name), (1, "es256"));
    assert_eq!(config.limits, ConnectionLimits::default());
    for setting in SETTINGS {
        assert!(!setting.default.is_empty() && !setting.about.is_empty(), "{setting:?}");
    }
}

#[test]
fn each_setting_can_be_given_in_the_file_and_in_the_environment_which_prevails() {
    let mut tried = BTreeSet::new();
    for (name, value, other) in [
        ("issuer", "'https://a.example'", "https://b.example/x"),
        ("base_url", "'https://a.example'", "https://b.example:8443"),
        ("listen", "'127.0.0.1:1'", "[::1]:2"),
        ("directory", "'a'", "b"),
        ("kek", "['env:A']", "file:/a b, env:B"),
        ("kek_group_may_read", "false", "true"),
        ("policy_file", "'a'", "b"),
        ("secret_key_file", "'a'", "b"),
        ("slots", "['ES256']", "EdDSA, k=RS256:4096"),
        ("max_lifetime", "60", "61"),
        ("rotation", "90000", "90001"),
        ("overlap", "90000", "90001"),
        ("max_age", "60", "61"),
        ("intermediary", "0", "1"),
        ("clock_error", "1", "2"),
        ("plain_http", "true", "false"),
        ("failed_authentications", "0", "2"),
        ("audit_file", "'a'", "b"),
        ("audit_when_full", "'block'", "drop"),
        ("audit_subjects", "'plain'", "hashed"),
        ("metrics_listen", "'127.0.0.1:9'", "off"),
        ("revocations_file", "'a'", "b"),
        ("connections", "1", "2"),
        ("handshake_time", "1", "2"),
        ("head_time", "1", "2"),
        ("ping_time", "1", "2"),
        ("connection_time", "1", "2"),
        ("ending_time", "1", "2"),
    ] {
        let file = format!("{name} = {value}");
        let variable = format!("COUNTERSIGN_{}", name.to_ascii_uppercase());
        let by_file = Config::read(&file, NONE).unwrap();
        let by_both = Config::read(&file, [(&*variable, other)]).unwrap();
        assert_ne!(by_file, by_both, "{name}");
        assert_eq!(Config::read("", [(&*variable, other)]).unwrap(), by_both, "{name}");
        assert!(tried.insert(name));
        for config in [by_file, by_both] {
            assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config, "{name}");
        }
    }
    #[cfg(feature = "s3")]
    {
        let kek = ("COUNTERSIGN_KEK", "env:A");
        let config = Config::read("store = 's3://rings/prod/'", [kek]).unwrap();
        assert_eq!(config.store, Some("s3://rings/prod".parse().unwrap()));
        assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config);
        assert_eq!(Config::read("", [("COUNTERSIGN_STORE", "s3://rings/prod"), kek]).unwrap(), config);
    }
    // Those that go together only, above and in the test below.
    let together = ["store", "tls_certificate_file", "tls_key_file", "client_ca_file"];
    let all = SETTINGS.iter().map(|setting| setting.name).filter(|name| !together.contains(name));
    assert_eq!(all.collect::<BTreeSet<_>>(), tried, "each of them is in the table above");
}

#[test]
fn tls_needs_both_of_its_files_and_makes_the_issuer_https() {
    let file = "listen = '0.0.0.0:443'\ntls_certificate_file = 'c'\ntls_key_file = 'k'\nclient_ca_file = 'a'";
    let config = Config::read(file, NONE).unwrap();
    let tls = config.tls.as_ref().unwrap();
    assert_eq!(config.issuer, "https://0.0.0.0:443");
    assert_eq!((&tls.certificate, &tls.key), (&PathBuf::from("c"), &PathBuf::from("k")));
    assert_eq!(tls.client_authorities, Some(PathBuf::from("a")));
    assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config);
    for name in ["TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "CLIENT_CA_FILE"] {
        let other = Config::read(file, [(format!("COUNTERSIGN_{name}"), "other")]).unwrap();
        assert_ne!(other, config, "{name}");
        assert_eq!(Config::read(&other.to_toml(), NONE).unwrap(), other);
    }
}

#[test]
fn without_tls_nobody_elsewhere_is_listened_to_unless_that_is_said() {
    for listen in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80"] {
        let file = format!("listen = '{listen}'\nissuer = 'https://a.example'\n");
        assert!(Config::read(&file, NONE).unwrap_err().to_string().contains("plain_http"), "{listen}");
        assert!(Config::read(&file, [("COUNTERSIGN_PLAIN_HTTP", "true")]).unwrap().tls.is_none());
    }
    for listen in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
        assert!(Config::read(&format!("listen = '{listen}'"), NONE).is_ok(), "{listen}");
    }
}

#[test]
fn a_file_has_so_many_bytes() {
    let file = |length: usize| format!("#{}", " ".repeat(length - 1));
    assert!(Config::read(&file(MAX_CONFIG_BYTES), NONE).is_ok());
    let error = Config::read(&file(MAX_CONFIG_BYTES + 1), NONE).unwrap_err();
    assert_eq!(error.to_string(), "the file has more than 65536 bytes");
}

#[test]
fn what_kubernetes_says_of_a_service_of_this_name_is_no_setting() {
    let links = [
        ("COUNTERSIGN_SERVICE_HOST", "10.0.0.7"),
        ("COUNTERSIGN_SERVICE_PORT", "443"),
        ("COUNTERSIGN_SERVICE_PORT_HTTPS", "443"),
        ("COUNTERSIGN_PORT", "tcp://10.0.0.7:443"),
        ("COUNTERSIGN_PORT_443_TCP", "tcp://10.0.0.7:443"),
        ("COUNTERSIGN_PORT_443_TCP_PROTO", "tcp"),
        ("COUNTERSIGN_PORT_443_TCP_PORT", "443"),
        ("COUNTERSIGN_PORT_443_TCP_ADDR", "10.0.0.7"),
        ("COUNTERSIGN_API_SERVICE_HOST", "fd00::7"),
        ("COUNTERSIGN_API_PORT_443_TCP", "tcp://[fd00::7]:443"),
    ];
    assert_eq!(Config::read("", links), Config::read("", NONE));
    for (name, value) in [("PORT", "443"), ("HOST", "10.0.0.7"), ("SERVICE_PORT", "x"), ("LISTEN_ADDR", "10.0.0.7")] {
        assert!(Config::read("", [(format!("COUNTERSIGN_{name}"), value)]).is_err(), "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for file in [
        "tls_certificate_file = 'a'",
        "tls_key_file = 'a'",
        "client_ca_file = 'a'",
        "tls_key_file = 'a'\nclient_ca_file = 'a'",
        "plain_http = true\ntls_certificate_file = 'a'\ntls_key_file = 'a'",
        "plain_http = 1",
        "handshake_time = 0",
        "listen = 8080",
        "listen = '127.0.0.1'",
        "isuer = 'https://a.example'",
        "issuer = 'http://a.example'",
        "issuer = 'http://127.0.0.1.example'",
        "issuer = 'https://a.example?x'",
        "issuer = 'a.example'",
        "base_url = 'a.example'",
        "base_url = 'https://A.example'",
        "base_url = 'https://a.example/?x'",
        "listen = '127.0.0.1:0'",
        "slots = []",
        "slots = ['HS256']",
        "slots = ['none']",
        "slots = ['ES256:2048']",
        "slots = ['RS256:1024']",
        "slots = ['ES256', 'ES256']",
        "slots = ['RS256/4096']",
        "store = 's3://rings'",
        "store = 's3://Rings'\nkek = ['env:A']",
        "store = 'gs://rings'\nkek = ['env:A']",
        "store = '/rings'\nkek = ['env:A']",
        "kek = ['/run/secrets/kek']",
        "kek = 'env:A'",
        "kek_group_may_read = 'yes'",
        "max_lifetime = 86400",
        "audit_when_full = 'fail'",
        "audit_subjects = ''",
        "metrics_listen = 'on'",
        "metrics_listen = '127.0.0.1'",
        "metrics_listen = '127.0.0.1:8080'",
        "audit = 'a'",
        "connections = 0",
        "head_time = -1",
        "head_time = 0",
        "ping_time = 0",
    ] {
        assert!(Config::read(file, NONE).is_err(), "{file}");
    }
    assert!(Config::read("", [("COUNTERSIGN_LISTN", "x")]).is_err());
    assert!(Config::read("", [("COUNTERSIGN_HEAD_TIME", "1s")]).is_err());
    assert!(Config::read("", [("COUNTERSIGN_PLAIN_HTTP", "yes")]).is_err());
    assert!(Config::read("", [("COUNTERSIGN_CONFIG", "x"), ("PATH", "y")]).is_ok());
    for (host, expected) in
        [("localhost:80", true), ("[::1]:80", true), ("[::1]", true), ("127.9.9.9", true), ("10.0.0.1", false)]
    {
        assert_eq!(is_loopback(host), expected, "{host}");
    }
}
