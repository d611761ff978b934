//! The engine of a push kind: memberships, online logins, active calls, and the pushes that follow
