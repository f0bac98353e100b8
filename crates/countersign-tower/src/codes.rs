use crate::refusal::Refusal;

impl Refusal {
    /// All that [`code`](Self::code) can be, in the order of the alphabet.
    pub const CODES: &'static [&'static str] = &[
        "alg_missing",
        "alg_none",
        "alg_not_allowed",
        "alg_unknown",
        "bad_signature",
        "bound_to_key",
        "claim_malformed",
        "claim_missing",
        "claims_type",
        "crit",
        "encrypted",
        "expired",
        "forbidden",
        "header_duplicate_member",
        "header_malformed",
        "header_not_an_object",
        "header_too_long",
        "header_too_many_members",
        "id_token",
        "insufficient_scope",
        "insufficient_user_authentication",
        "irrevocable",
        "issued_in_the_future",
        "key_not_checked_yet",
        "key_not_sought",
        "key_of_no_issuer",
        "keys_never_fetched",
        "keys_no_runtime",
        "keys_starting",
        "keys_too_old",
        "kid_required",
        "limited",
        "lives_too_long",
        "malformed_credentials",
        "many_credentials",
        "no_credentials",
        "not_base64url",
        "not_three_parts",
        "not_yet_valid",
        "payload_duplicate_member",
        "payload_not_an_object",
        "payload_transformed",
        "request_body_incomplete",
        "request_body_timeout",
        "request_body_too_large",
        "request_claim_unusable",
        "request_memory_full",
        "request_older_than_process",
        "request_other",
        "request_shared_secret",
        "request_target_ambiguous",
        "request_used",
        "revocations_stale",
        "revoked_client",
        "revoked_family",
        "revoked_issuer",
        "revoked_key",
        "revoked_session",
        "revoked_subject",
        "revoked_tenant",
        "revoked_token",
        "security_event",
        "signature_too_short",
        "token_too_long",
        "too_old",
        "unknown_issuer",
        "unknown_key",
        "wrong_audience",
        "wrong_issuer",
        "wrong_subject",
        "wrong_type",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_so_that_they_can_be_searched() {
        assert!(Refusal::CODES.is_sorted_by(|one, next| one < next));
    }
}
