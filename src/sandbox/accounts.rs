//! The fictional accounts the sandbox starts with.
//!
//! Every value is invented, or an id taken from a vendor's published examples. The secrets protect nothing.

/// The `StartExam` account.
pub mod startexam {
    /// Account id in the `Authorization` header.
    pub const ACCOUNT_ID: u64 = 99;
    /// The account's secret; its UTF-8 characters are the key (`secret_encoding = "utf8"`).
    pub const SECRET: &str = "ZXhhbWdhdGUtdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OTA=";
    /// The only center's unique name.
    pub const CENTER: &str = "mycenter";
    /// The center's id, which `v1/program` uses instead of the name.
    pub const CENTER_ID: &str = "5b1f0a52-6d5e-4f0c-9a57-1f2d3c4b5a69";
    /// The only project.
    pub const PROJECT_ID: &str = "0c2e7b61-93b4-4f0e-8f6a-7d2b8c1a9e34";
    /// The profile that defines the fields of employees.
    pub const PROFILE_ID: &str = "d51b5efd-fb21-4cb8-94e2-145014839465";
    /// Fields of the profile; no others are accepted.
    pub const PROFILE_FIELDS: &[&str] = &[
        "First Name",
        "Last Name",
        "Email",
        "Full Name",
        "Mobile",
        "Phone",
        "Street",
        "City",
        "Region",
        "Postal Code",
        "Country",
        "Department",
        "Position",
    ];
    /// Tests: id and title.
    pub const TESTS: &[(&str, &str)] = &[
        ("fa19e351-36d0-49c0-be92-66d640b17878", "Rust 101"),
        ("3c9d2f7e-58b1-4f6a-8d0c-2b7e91a4c6d5", "Safety at work"),
        ("a7e4b0c8-1f23-4d69-b5a7-90c3e8d2f146", "Data protection"),
        ("6f0d8e21-c4b7-4a95-93e1-5d7b2c8fa03e", "English B2"),
    ];
    /// The program to which every test belongs, in manual mode.
    pub const PROGRAM_ID: &str = "918ae938-8ea5-4298-b5ac-f8ffd873ceb6";
    /// The same program's id assigned by the customer.
    pub const PROGRAM_EXTERNAL_ID: &str = "onboarding-2026";
    /// A second program, in automatic mode, with the first two tests.
    pub const AUTOMATIC_PROGRAM_ID: &str = "2d5f7c1a-0b3e-4c8d-a6f9-e71b04d3582c";
    /// The second program's id assigned by the customer.
    pub const AUTOMATIC_PROGRAM_EXTERNAL_ID: &str = "yearly-refresher";
}

/// The `ThinkExam` account.
pub mod thinkexam {
    /// API key, the header `ak`.
    pub const API_KEY: &str = "sandbox-thinkexam-key";
    /// Secret for the signature endpoint and for the `hmac` formula.
    pub const SECRET: &str = "sandbox-thinkexam-secret";
    /// `sgn` of the triple that never expires.
    pub const STATIC_SIGNATURE: &str = "sandbox-static-signature";
    /// `ts` of the triple that never expires.
    pub const STATIC_TIMESTAMP: &str = "1700000000";
    /// The key that the webhook sends, as the admin panel would show it.
    pub const WEBHOOK_KEY: &str = "sandbox-thinkexam-webhook-key";
    /// The client that `Custom-Header` names for `newUser` and `checkLogin`.
    pub const CLIENT_URL: &str = "sandbox.thinkexam.example";
    /// Course names; `newUser` also takes courses by number, from 1.
    pub const COURSES: &[&str] = &["CE104", "Safety Basics", "Data Science 2026"];
    /// Tests: id and title.
    pub const TESTS: &[(&str, &str)] =
        &[("2415", "Aptitude"), ("2416", "Safety Basics final"), ("2417", "Data Science entry")];
}

/// The LMS that receives webhooks.
pub mod lms {
    /// The path that webhooks are sent to; any path below it is as good.
    pub const PATH: &str = "/hook";
    /// The secret that webhooks are signed with, as in Standard Webhooks.
    pub const SECRET: &str = "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDE=";
}

/// The `ExamTesting` institute.
pub mod examtesting {
    /// `Institutionid`.
    pub const INSTITUTION_ID: &str = "1234";
    /// `Apikey`.
    pub const API_KEY: &str = "sandbox-examtesting-key";
    /// `ApiPass`.
    pub const API_PASS: &str = "sandbox-examtesting-pass";
    /// Student groups; each has its own exams.
    pub const GROUPS: &[&str] = &["Group A", "Group B", "Evening Class"];
}
