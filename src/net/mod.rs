//! Network interfaces, addresses, routes and rules over rtnetlink.
//!
//! External spec: rtnetlink(7), linux/rtnetlink.h and linux/fib_rules.h of Linux 6.
