use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use countersign_claims::signed_request::{BodyDigest, Digesting};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::refusal::RequestRefusal;

/// The body of a signed request: all of it, and what its client has signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedBody(Bytes);

impl SignedBody {
    pub(super) fn new(octets: Bytes) -> Self {
        Self(octets)
    }

    /// Its octets.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Body for SignedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let octets = std::mem::take(&mut self.0);
        Poll::Ready((!octets.is_empty()).then(|| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

pin_project! {
    /// A body that is being read.
    pub(super) struct Reading<B> {
        #[pin]
        body: B,
        digest: Digesting,
        octets: BytesMut,
        most: usize,
    }
}

impl<B: Body> Reading<B> {
    /// # Errors
    /// [`RequestRefusal::BodyTooLarge`], if it is announced to be that.
    pub(super) fn new(body: B, most: usize) -> Result<Self, RequestRefusal> {
        if body.size_hint().lower() > most as u64 {
            return Err(RequestRefusal::BodyTooLarge { most });
        }
        Ok(Self { body, digest: Digesting::new(), octets: BytesMut::new(), most })
    }

    /// Reads as much as there is. No more than `most` is ever kept.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(SignedBody, BodyDigest), RequestRefusal>> {
        let mut this = self.project();
        loop {
            let frame = match std::task::ready!(this.body.as_mut().poll_frame(cx)) {
                None => {
                    let octets = std::mem::take(this.octets).freeze();
                    return Poll::Ready(Ok((SignedBody::new(octets), this.digest.clone().finish())));
                }
                Some(Err(_)) => return Poll::Ready(Err(RequestRefusal::BodyIncomplete)),
                Some(Ok(frame)) => frame,
            };
            // Trailers are not signed, and do not go on.
            let Ok(mut data) = frame.into_data() else { continue };
            if data.remaining() > *this.most - this.octets.len() {
                return Poll::Ready(Err(RequestRefusal::BodyTooLarge { most: *this.most }));
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                let length = chunk.len();
                this.digest.update(chunk);
                this.octets.extend_from_slice(chunk);
                data.advance(length);
            }
        }
    }
}
