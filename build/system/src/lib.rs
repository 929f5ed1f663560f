//! The system description: parsed, checked, explained.
