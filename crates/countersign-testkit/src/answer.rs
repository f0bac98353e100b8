use std::time::Duration;

/// What an [`IdentityProvider`](crate::IdentityProvider) does when it is asked for its keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// 200 and the keys that are published, with the headers that are [set](crate::IdentityProvider::set_header), or 304 if
    /// the request names [their `ETag`](crate::IdentityProvider::send_etags).
    Keys,
    /// As [`Keys`](Self::Keys), after this long.
    Late(Duration),
    /// As [`Keys`](Self::Keys), one octet at a time with this long between two, the status line included.
    Drip(Duration),
    /// The headers and the first half of [`Keys`](Self::Keys), and then an orderly end of the connection.
    Truncated,
    /// This response.
    Response {
        /// Its status.
        status: u16,
        /// Its header fields, in this order; `content-length` and `date` are added where they are missing.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// 302 to another path of the same provider, where the keys are to be had. Whoever follows it shows up in
    /// [`requests`](crate::IdentityProvider::requests).
    Redirect,
    /// 200, and a JSON document that begins well and goes on with white space for this many octets.
    Endless(u64),
    /// Nothing: the request is read, and the connection stays open.
    Stall,
    /// Nothing but a TCP reset.
    Reset,
}

impl Answer {
    /// That status, without a body: `Answer::status(500)`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Response { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 and this body, for JSON: `Answer::body("<html>garbage")`.
    #[must_use]
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self::Response { status: 200, headers, body: body.into() }
    }

    /// This answer with one more header field.
    ///
    /// # Panics
    /// If it is not a [`Response`](Self::Response); for the keys, see
    /// [`set_header`](crate::IdentityProvider::set_header).
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let Self::Response { headers, .. } = &mut self else {
            unreachable!("only a response of the test's own has header fields of its own");
        };
        headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
