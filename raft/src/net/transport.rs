//! What calls travel over: gRPC's own connections in a node, links of the simulated world in a simulation.

#[cfg(not(feature = "simulation"))]
pub(crate) use of_a_node::{Channel, Listener, connect, listen, serve};

#[cfg(feature = "simulation")]
pub(crate) use super::simulated::{Channel, Listener, connect, listen, serve};

#[cfg(not(feature = "simulation"))]
mod of_a_node {
    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;

    use tonic::transport::Endpoint;
    use tonic::transport::server::TcpIncoming;

    use crate::net::server::PeerService;
    use crate::net::{KEEP_ALIVE_DEADLINE, KEEP_ALIVE_INTERVAL};
    use crate::proto::peer_server::PeerServer;

    pub(crate) use tokio::net::TcpListener as Listener;
    pub(crate) use tonic::transport::Channel;

    const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
    /// Flow-control windows, bytes: one full append must not wait for another round.
    const STREAM_WINDOW_BYTES: u32 = 8 << 20;
    const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
    /// A silent connection of a peer is asked for a sign of life after this.
    const SERVER_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

    /// A connection to `address` (`host:port`), made when first used.
    pub(crate) fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_DEADLINE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(endpoint.connect_lazy())
    }

    /// Listens for peers.
    pub(crate) async fn listen(address: SocketAddr, _advertised: &str) -> io::Result<Listener> {
        Listener::bind(address).await
    }

    /// Answers what comes in.
    pub(crate) async fn serve(
        listener: Listener,
        service: PeerServer<PeerService>,
    ) -> Result<(), tonic::transport::Error> {
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(SERVER_KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_DEADLINE))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_with_incoming(service, TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
    }
}
