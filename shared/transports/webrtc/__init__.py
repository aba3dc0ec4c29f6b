"""A WebRTC data channel as a transport, and what it takes to get one."""
