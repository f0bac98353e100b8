//! The key ring of countersign: keys are made, published, used, retired and destroyed on their own, and at no instant does an unexpired token fail at a
//! verifier that follows the rules.

mod store;
