//! What the containers said, kept in the run's folder.

use super::folder::{Folder, FolderError};
use crate::compose::{Compose, ComposeError, Container, SERVICES};

/// The other end of the nodes.
const SIMULATOR: &str = "simulator";

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Containers cannot be asked.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// Files cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Every container's log, by its service. One that is gone has been kept before it went.
pub async fn logs(compose: &Compose, folder: &Folder) -> Result<(), CollectError> {
    for service in SERVICES.into_iter().chain([SIMULATOR]) {
        match compose.container(service).await {
            Ok(container) => log(compose, folder, service, &container).await?,
            Err(ComposeError::NoContainer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The log of one container.
pub async fn log(compose: &Compose, folder: &Folder, service: &str, container: &Container) -> Result<(), CollectError> {
    let said = compose.logs(container).await?;
    let path = folder.logs().join(format!("{service}-{}.log", container.short_id()));
    Ok(folder.write(&path, said)?)
}
