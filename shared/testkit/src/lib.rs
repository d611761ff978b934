//! For tests only: nats-server children, clusters, wait_for, free ports, processes
