//! npm `jose`, in both directions.

use crate::Result;
use crate::differences::compare;
use crate::minted::{Farewell, Minted};
use crate::node::NodeJs;
use crate::ours;
use crate::tally::Tally;

pub(crate) async fn run(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let mut mint = nodejs.start("mint.mjs")?;
    let mut judge = nodejs.start("verify.mjs")?;
    let minted: Minted = mint.line().await?;
    let pending = minted.judged_here(|algorithm| nodejs.may_lack(algorithm), tally).await?;
    compare(&minted, &mut judge, tally).await?;
    pending.finish(tally).await?;
    let farewell: Farewell = mint.farewell().await?;
    tally.expect("no token made anybody fetch the attacker's key set", farewell.attacker_fetches == 0);

    ours::judged_by("jose", &mut judge, |algorithm| nodejs.may_lack(algorithm), tally).await?;
    judge.finish().await
}
