//! One main for all services: configuration, lifecycle, admin port, gRPC doors, shutdown in two stages
