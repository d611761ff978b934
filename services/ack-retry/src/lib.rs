//! Keeps pushes until they are acknowledged: three transmissions, then inbox or dead letter
