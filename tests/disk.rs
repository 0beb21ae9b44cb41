//! Disks: pages zeroed as power loss does, and a disk that fills.
