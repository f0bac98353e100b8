//! The worked examples of the RFCs. A slip in copying one would show: its signature would not verify.
//!
//! Their payloads are not all claims, which is none of this crate's business.

use countersign_token::{
    Algorithm, AlgorithmSet, KeySet, Origin, SignatureError, SigningKey, TokenError, Unusable, VerifyingKey,
};
use serde_json::{Value, json};

use crate::{Refusal, base64url, from_base64url, jwk_set, key_set, signature_of, verify, with_signature};

/// The example verifies to this payload, and no longer when a single bit of its signature is another.
#[track_caller]
fn assert_example(token: &str, payload: &[u8], keys: &KeySet) {
    assert_eq!(verify(token, keys).as_deref(), Ok(payload));
    let mut signature = signature_of(token);
    let middle = signature.len() / 2;
    signature[middle] ^= 1;
    assert_eq!(verify(&with_signature(token, &signature), keys), Err(Refusal::Signature(SignatureError::Mismatch)));
}

/// The claims of RFC 7515 A.1 to A.5, with the line ends that their octets have.
const JOE: &[u8] = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

const JOE_ENCODED: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

const A2_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

const A3_SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

fn a2_key() -> Value {
    json!({
        "kty": "RSA",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "e": "AQAB",
    })
}

fn a3_key() -> Value {
    json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

#[test]
fn rfc_7515_a_1_hs256() {
    let keys = key_set(
        [json!({
            "kty": "oct",
            "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        })],
        Origin::Local,
    );
    let token =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE_ENCODED}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_example(&token, JOE, &keys);
}

#[test]
fn rfc_7515_a_2_rs256() {
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{JOE_ENCODED}.{A2_SIGNATURE}");
    assert_example(&token, JOE, &key_set([a2_key()], Origin::Remote));
}

#[test]
fn rfc_7515_a_3_es256() {
    let token = format!("eyJhbGciOiJFUzI1NiJ9.{JOE_ENCODED}.{A3_SIGNATURE}");
    assert_example(&token, JOE, &key_set([a3_key()], Origin::Remote));

    // The key as the RFC prints it has its private part, which a published set must not.
    let mut private = a3_key();
    private["d"] = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI".into();
    assert_example(&token, JOE, &key_set([private.clone()], Origin::Local));
    assert_eq!(jwk_set([private], Origin::Remote).skipped()[0].reason, Unusable::Private);
}

#[test]
fn rfc_7515_a_4_es512() {
    let keys = key_set(
        [json!({
            "kty": "EC", "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        })],
        Origin::Remote,
    );
    let token = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    assert_example(token, b"Payload", &keys);
}

#[test]
fn rfc_7515_a_5_unsecured_is_refused() {
    let token = format!("eyJhbGciOiJub25lIn0.{JOE_ENCODED}.");
    let keys = key_set([a2_key(), a3_key()], Origin::Remote);
    assert_eq!(verify(&token, &keys), Err(Refusal::Token(TokenError::UnsignedAlgorithm)));
}

/// A.6 and A.7 hold the signatures of A.2 and A.3, which verify in the compact form.
#[test]
fn rfc_7515_a_6_and_a_7_json_serialization_is_refused_by_shape() {
    let keys = key_set([a2_key(), a3_key()], Origin::Remote);
    let rs256 = json!({
        "protected": "eyJhbGciOiJSUzI1NiJ9", "header": { "kid": "2010-12-29" }, "signature": A2_SIGNATURE,
    });
    let es256 = json!({
        "protected": "eyJhbGciOiJFUzI1NiJ9",
        "header": { "kid": "e9bc097a-ce51-4036-9562-d2ade882db0d" },
        "signature": A3_SIGNATURE,
    });
    let mut flattened = es256.clone();
    flattened["payload"] = JOE_ENCODED.into();
    for document in [json!({ "payload": JOE_ENCODED, "signatures": [rs256, es256] }), flattened] {
        assert_eq!(verify(&document.to_string(), &keys), Err(Refusal::Token(TokenError::NotThreeParts)));
    }
}

/// Appendix E is an example that "MUST be rejected": of its two reasons, the missing signature comes first.
#[test]
fn rfc_7515_e_unknown_critical_header_is_refused() {
    let header = "{\"alg\":\"none\",\r\n \"crit\":[\"http://example.com/UNDEFINED\"],\r\n \"http://example.com/UNDEFINED\":true\r\n}";
    let token = format!("{}.RkFJTA.", base64url(header));
    let keys = key_set([a2_key()], Origin::Remote);
    assert_eq!(verify(&token, &keys), Err(Refusal::Token(TokenError::UnsignedAlgorithm)));
    let signed = token.replace(&base64url(header), &base64url(header.replace("none", "RS256")));
    assert_eq!(verify(&signed, &keys), Err(Refusal::Token(TokenError::CriticalHeader)));
}

/// The payload of RFC 7520 §4.
const FRODO: &str = "It\u{2019}s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your feet, there\u{2019}s no knowing where you might be swept off to.";

/// All keys of RFC 7520 §3 that §4 uses. Two of them share a name, which §4.8 needs.
fn hobbiton() -> KeySet {
    key_set(
        [
            json!({
                "kty": "EC", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "crv": "P-521",
                "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
                "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
            }),
            json!({
                "kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig",
                "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw",
                "e": "AQAB",
            }),
            json!({
                "kty": "oct", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037", "use": "sig", "alg": "HS256",
                "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
            }),
        ],
        Origin::Local,
    )
}

fn frodo(header: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", base64url(header), base64url(FRODO))
}

const BILBO_RS256: &str = r#"{"alg":"RS256","kid":"bilbo.baggins@hobbiton.example"}"#;
const SHARED_HS256: &str = r#"{"alg":"HS256","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037"}"#;
const SHARED_SIGNATURE: &str = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";

#[test]
fn rfc_7520_4_1_rs256() {
    let token = frodo(
        BILBO_RS256,
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    );
    assert_example(&token, FRODO.as_bytes(), &hobbiton());
}

#[test]
fn rfc_7520_4_2_ps384() {
    let token = frodo(
        r#"{"alg":"PS384","kid":"bilbo.baggins@hobbiton.example"}"#,
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
    );
    assert_example(&token, FRODO.as_bytes(), &hobbiton());
}

#[test]
fn rfc_7520_4_3_es512() {
    let token = frodo(
        r#"{"alg":"ES512","kid":"bilbo.baggins@hobbiton.example"}"#,
        "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
    );
    assert_example(&token, FRODO.as_bytes(), &hobbiton());
}

#[test]
fn rfc_7520_4_4_hs256() {
    assert_example(&frodo(SHARED_HS256, SHARED_SIGNATURE), FRODO.as_bytes(), &hobbiton());
}

/// Without its payload, the token of §4.4 is one with an empty payload, which nobody signed.
#[test]
fn rfc_7520_4_5_detached_content_does_not_verify() {
    let token = format!("{}..{SHARED_SIGNATURE}", base64url(SHARED_HS256));
    assert_eq!(verify(&token, &hobbiton()), Err(Refusal::Signature(SignatureError::Mismatch)));
}

/// What these sections put outside the signature has no place in the compact form. Where the signed part suffices to be
/// a token, it is one.
#[test]
fn rfc_7520_4_6_to_4_8_json_serialization_is_refused_by_shape() {
    let payload = base64url(FRODO);
    let protected_alg_only = "bWUSVaxorn7bEF1djytBd0kHv70Ly5pvbomzMWSOr20";
    let rs256 = "MIsjqtVlOpa71KE-Mss8_Nq2YH4FGhiocsqrgi5NvyG53uoimic1tcMdSg-qptrzZc7CG6Svw2Y13TDIqHzTUrL_lR2ZFcryNFiHkSw129EghGpwkpxaTn_THJTCglNbADko1MZBCdwzJxwqZc-1RlpO2HibUYyXSwO97BSe0_evZKdjvvKSgsIqjytKSeAMbhMBdMma622_BG5t4sdbuCHtFjp9iJmkio47AIwqkZV1aIZsv33uPUqBBCXbYoQJwt7mxPftHmNlGoOSMxR_3thmXTCm4US-xiNOyhbm8afKK64jU6_TPtQHiJeQJxz9G3Tx-083B745_AfYOnlC9w";
    let es512 = "ARcVLnaJJaUWG8fG-8t5BREVAuTY8n8YHjwDO1muhcdCoFZFFjfISu0Cdkn9Ybdlmi54ho0x924DUz8sK7ZXkhc7AFM8ObLfTvNCrqcI3Jkl2U5IX3utNhODH6v7xgy1Qahsn0fyb4zSAkje8bAWz4vIfj5pCMYxxm4fgV3q7ZYhm5eD";
    let unprotected = "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk";
    let bilbo = json!({ "kid": "bilbo.baggins@hobbiton.example" });
    let shared = json!({ "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037" });

    let documents = [
        // §4.6
        json!({
            "payload": payload, "protected": base64url(r#"{"alg":"HS256"}"#), "header": shared,
            "signature": protected_alg_only,
        }),
        // §4.7
        json!({
            "payload": payload,
            "header": { "alg": "HS256", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037" },
            "signature": unprotected,
        }),
        // §4.8
        json!({
            "payload": payload,
            "signatures": [
                { "protected": base64url(r#"{"alg":"RS256"}"#), "header": bilbo, "signature": rs256 },
                { "header": { "alg": "ES512", "kid": "bilbo.baggins@hobbiton.example" }, "signature": es512 },
                { "protected": base64url(SHARED_HS256), "signature": SHARED_SIGNATURE },
            ],
        }),
    ];
    for document in documents {
        let refusal = verify(&document.to_string(), &hobbiton());
        // The names in §4.8 have four dots between them, as many as a JWE.
        assert!(
            matches!(refusal, Err(Refusal::Token(TokenError::NotThreeParts | TokenError::Encrypted))),
            "{document}: {refusal:?}"
        );
    }

    // No part of the header is under these two signatures, which are good as such.
    for (algorithm, signature) in [(Algorithm::Hs256, unprotected), (Algorithm::Es512, es512)] {
        let keys = hobbiton();
        let key = keys.candidates(None, algorithm).next().unwrap();
        assert_eq!(key.verify_bytes(algorithm, format!(".{payload}").as_bytes(), &from_base64url(signature)), Ok(()));
    }
    assert_example(&frodo(r#"{"alg":"HS256"}"#, protected_alg_only), FRODO.as_bytes(), &hobbiton());
    assert_example(&frodo(r#"{"alg":"RS256"}"#, rs256), FRODO.as_bytes(), &hobbiton());
}

/// RFC 7797 §4.2: the payload is not encoded, and what is signed is not what stands there.
#[test]
fn rfc_7797_4_2_unencoded_payload_is_refused() {
    let keys = key_set(
        [json!({
            "kty": "oct",
            "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        })],
        Origin::Local,
    );
    let detached =
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY";
    assert_eq!(verify(detached, &keys), Err(Refusal::Token(TokenError::TransformedPayload)));
    let attached = detached.replace("..", ".$.02.");
    let (input, _) = attached.rsplit_once('.').unwrap();
    let key = keys.iter().next().unwrap();
    assert_eq!(key.verify_bytes(Algorithm::Hs256, input.as_bytes(), &signature_of(&attached)), Ok(()));
    assert_eq!(verify(&attached, &keys), Err(Refusal::Token(TokenError::NotThreeParts)));
}

/// The key of RFC 8037 A.2.
fn rfc_8037_key() -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
}

#[test]
fn rfc_8037_a_3_thumbprint() {
    let set = jwk_set([rfc_8037_key()], Origin::Remote);
    assert_eq!(set.keys()[0].thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn rfc_8037_a_4_and_a_5_ed25519() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_example(token, b"Example of Ed25519 signing", &key_set([rfc_8037_key()], Origin::Remote));

    // A.4 signs with the private key of A.1, here in PKCS#8 (RFC 8410 §7); Ed25519 always gives the same signature.
    let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    pkcs8.extend(from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"));
    let signer = SigningKey::from_der(&pkcs8, Algorithm::EdDsa).unwrap();
    let (input, _) = token.rsplit_once('.').unwrap();
    assert_eq!(signer.signature(input.as_bytes()).unwrap(), signature_of(token));
}

/// Its key is for key agreement.
#[test]
fn rfc_8037_a_6_x25519_keys_are_skipped() {
    let jwk = json!({
        "kty": "OKP", "crv": "X25519", "kid": "Bob", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08",
    });
    assert_eq!(jwk_set([jwk], Origin::Remote).skipped()[0].reason, Unusable::UnknownCurve);
}

#[test]
fn rfc_7638_3_1_thumbprint() {
    let jwk = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
    });
    let set = jwk_set([jwk], Origin::Remote);
    assert_eq!(set.keys()[0].thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(set.keys()[0].kid(), Some("2011-04-29"));
    assert_eq!(set.keys()[0].algorithms(), AlgorithmSet::from(Algorithm::Rs256));
}

/// RFC 9964: its ML-DSA-44 example, whose seed is 32 zeros and whose `kid` is the thumbprint.
#[test]
fn rfc_9964_ml_dsa_44() {
    let token = include_str!("ml_dsa_44.jws");
    // PKCS#8 with the seed alone (RFC 9881 §6).
    let mut pkcs8 =
        b"\x30\x34\x02\x01\x00\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x11\x04\x22\x80\x20".to_vec();
    pkcs8.extend([0; 32]);
    let signer = SigningKey::from_der(&pkcs8, Algorithm::MlDsa44).unwrap();
    let kid = "T4xl70S7MT6Zeq6r9V9fPJGVn76wfnXJ21-gyo0Gu6o";
    assert_eq!(signer.verifying_key().unwrap().thumbprint().to_string(), kid);

    let keys = key_set([signer.with_kid(kid).public_jwk().unwrap()], Origin::Remote);
    assert_eq!(keys.iter().filter_map(|key| VerifyingKey::kid(key)).collect::<Vec<_>>(), [kid]);
    assert_example(token, "It\u{2019}s a dangerous business, Frodo, going out your door.".as_bytes(), &keys);
}
