//! Where futures run: on this thread, for as long as the command takes.

use std::future::Future;

use tokio::runtime::Builder;

use crate::exit::Failure;

/// Waits for it. What is still under way then, such as a look-up of a name, is left behind.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::unavailable("no_runtime", format!("cannot begin: {}", error.kind())))?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}
